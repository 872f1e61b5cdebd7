"""Keeps one pulse throughout music with a machine's exact tempo, from one change of tempo to the next.

When drums pause, a tracker may change to the off-beats, half a beat away. While the tempo does not change, only one of
the two can be right, and it is right all the time.
"""

from itertools import pairwise

import numpy as np

from services.analysis.backends.beats.evidence import Evidence, Floats
from services.analysis.backends.signal.tempo import changes_of_tempo

# Largest deviation of pulses from an exact tempo (median): songs made by machines 3-5 ms, played songs and songs with a
# drifting tempo 20 ms and more.
_EXACT_SECONDS = 0.008
# Fewer pulses than this are no sign of a change.
_LEAST_SLIPPED = 4
_PATIENCE = 0.2


def on_grids(pulses: Floats, evidence: Evidence) -> Floats:
    """Returns the pulses; where their tempo is exact but they change to the off-beats, moves them to one phase.

    Args:
        pulses: seconds.
        evidence: of the song.
    """
    found = np.zeros(0)
    for first, stop in pairwise([0, *changes_of_tempo(pulses), len(pulses)]):
        piece = _on_one_grid(pulses[first:stop], evidence)
        # A piece that is moved may reach into the one before.
        least = found[-1] + float(np.median(np.diff(piece))) / 2 if len(found) else -np.inf
        found = np.concatenate([found, piece[piece > least]])
    return found


def _on_one_grid(pulses: Floats, evidence: Evidence) -> Floats:
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
        # The estimated lateness of beats changes slowly, because the period is not exact.
        places[pulse] = round(2 * (pulses[pulse] - expected) / period) / 2
        expected += _PATIENCE * (pulses[pulse] - expected - places[pulse] * period)
    return places
