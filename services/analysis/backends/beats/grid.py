"""One pulse for music that a machine keeps in time.

Where drums pause, a tracker may go over to the off-beats. In a song whose tempo never changes that cannot be: its
pulses are half a beat beside those before, and one of both is right for the whole song.
"""

import numpy as np

from services.analysis.backends.beats.evidence import Evidence, Floats

# How far pulses may be from where an exact tempo has them (median): songs made by machines 3-5 ms, played ones and
# such whose tempo drifts 20 ms and more.
_EXACT_SECONDS = 0.008
# Fewer pulses than this may be anything.
_LEAST_SLIPPED = 4
_PATIENCE = 0.2


def on_one_grid(pulses: Floats, evidence: Evidence) -> Floats:
    """The pulses, of one phase if their tempo is exact and their phase is not.

    Args:
        pulses: seconds.
        evidence: of the song.
    """
    places = _places(pulses)
    off = np.mod(places, 1.0) == 0.5
    if min(off.sum(), (~off).sum()) < _LEAST_SLIPPED:
        return pulses
    line = np.polyfit(places, pulses, 1)
    if float(np.median(np.abs(pulses - np.polyval(line, places)))) > _EXACT_SECONDS:
        return pulses
    grids: list[Floats] = [
        np.polyval(line, np.arange(np.ceil(places[0] - phase), places[-1] + 0.01) + phase).astype(np.float64)
        for phase in (0.0, 0.5)
    ]
    return max(grids, key=lambda times: float(evidence.pulse(times).mean()))


def _places(pulses: Floats) -> Floats:
    """The place of each pulse in the song, counted in beats, to the nearest half."""
    period = float(np.median(np.diff(pulses)))
    places = np.zeros(len(pulses))
    expected = float(pulses[0])
    for pulse in range(1, len(pulses)):
        # How late the beats are that were counted up to here follows slowly, as the period is not exact.
        places[pulse] = round(2 * (pulses[pulse] - expected) / period) / 2
        expected += _PATIENCE * (pulses[pulse] - expected - places[pulse] * period)
    return places
