"""Finds the beats among the pulses that a tracker follows.

Trackers follow the quavers of slow songs, and crotchets or quavers where a beat has three parts. The sign of this
is the bar: a second half that never begins one, an accent in its middle, or nothing at all between its beginnings.
"""

from dataclasses import dataclass

import numpy as np

from services.analysis.backends.beats.evidence import Evidence, Floats

# From here on people tap every second pulse rather than each, other things being equal: half an octave above 105 BPM.
_EVEN_BPM = 150.0
_SLOWEST_GROUPED_BPM = 96.0
# Contrast of downbeats with pulses half a period later, in log odds by the network and standard deviations of harmony.
# Synthesised songs at double tempo 1.8-6, others less than 2.5 in all and 0.9 by the network.
_LEAST_CONTRAST = 2.1
_LEAST_VOTES = 0.9
_MOST_VOTES = 4.0
# Accent in the middle of bars of three, less the one of their second and third beats, to that of the first: 3/4 at most
# 0.15 (waltzes -0.8), 6/8 and 12/8 at least 0.25.
_LEAST_MIDDLE = 0.2
# Probability of beats within bars, to that of their beginning: 0.15 and less where chords are held, else over 0.35.
_HOLLOW = 0.2
# So much stronger accents at thirds of a bar than at its quarters make it a quiet 3/4: held chords at most 0.05.
_LEAST_THIRDS = 0.1
_FASTEST_FILLED_BPM = 170.0
_BINARY_BEATS = 4


@dataclass(frozen=True, slots=True)
class Level:
    """Beats to be: one at pulse `start`, and one every `step` pulses before and after.

    Args:
        start: a pulse.
        step: 2 if every second pulse is a beat, 0.5 if there is one beat more between two pulses.
        ternary: whether a beat is known to have three parts.
        sure: only so many pulses lie one that is in time; what is between them is not heeded.
    """

    start: int = 0
    step: float = 1.0
    ternary: bool = False
    sure: int = 1

    def beats(self, pulses: Floats) -> Floats:
        """The times [beats] of the beats among those of the pulses, seconds."""
        numbers = np.arange(len(pulses))
        last = self.start + (len(pulses) - 1 - self.start) // self.sure * self.sure
        kept = (numbers < self.start) | (numbers > last) | ((numbers - self.start) % self.sure == 0)
        places = np.arange(self.start % self.step, len(pulses) - 1 + 1e-6, self.step)
        return np.asarray(np.interp(places, numbers[kept], pulses[kept]))


def find_level(pulses: Floats, per_bar: int, evidence: Evidence) -> Level:
    """The beats among the pulses of a tracker.

    Args:
        pulses: seconds, at least two bars of them.
        per_bar: pulses in a bar as the tracker has it, 3 or 4.
        evidence: of the song.
    """
    downbeats = evidence.downbeats(pulses)
    first = best_phase(downbeats, per_bar)
    bpm = 60 / float(np.median(np.diff(pulses)))
    if bpm > _SLOWEST_GROUPED_BPM and _is_grouped(pulses, 2 * per_bar, bpm, evidence):
        # Not of harmony: off-beat chords would point to the wrong half.
        start = best_phase(evidence.votes(pulses, _MOST_VOTES), 2 * per_bar)
        return Level(start, 3, ternary=True) if per_bar == 3 else Level(start, 2)
    bar = _hollow_bar(pulses, per_bar, first, evidence)
    thirds = _accent(pulses, first, (1, 2), evidence) if per_bar == 3 else 0.0
    if bar == 3 and thirds - _accent(pulses, first, (0.75, 1.5, 2.25), evidence) > _LEAST_THIRDS:
        return Level()
    if bar and bpm * _BINARY_BEATS / bar <= _FASTEST_FILLED_BPM:
        return Level(first, bar / _BINARY_BEATS, sure=bar)
    if per_bar == 3 and _accent(pulses, first, (1.5,), evidence) - thirds > _LEAST_MIDDLE:
        return Level(first, 1.5, ternary=True)
    return Level()


def best_phase(evidence: Floats, period: int) -> int:
    """The first index of the pulses that lie `period` apart and have the most evidence."""
    return int(np.argmax([evidence[phase::period].mean() for phase in range(period)]))


def _is_grouped(pulses: Floats, period: int, bpm: float, evidence: Evidence) -> bool:
    """Whether bars have `period` pulses at `bpm` and not half as many, so that beats are groups of pulses."""
    votes = _contrast(evidence.votes(pulses, _MOST_VOTES), period)
    contrast = votes + _contrast(evidence.changes(pulses), period)
    return votes > _LEAST_VOTES and contrast + 2 * np.log2(bpm / _EVEN_BPM) > _LEAST_CONTRAST


def _contrast(evidence: Floats, period: int) -> float:
    """The difference between the evidence where it is highest and half a period later."""
    first = best_phase(evidence, period)
    return float(evidence[first::period].mean() - evidence[(first + period // 2) % period :: period].mean())


def _hollow_bar(pulses: Floats, per_bar: int, first: int, evidence: Evidence) -> int:
    """The pulses of a bar within which the network hears no beat; 0 if it hears some."""
    pulse = evidence.pulse(pulses)
    means = [float(pulse[(first + place) % per_bar :: per_bar].mean()) for place in range(per_bar)]
    for bar in (2, per_bar) if per_bar == 4 else (per_bar,):
        if max(mean for place, mean in enumerate(means) if place % bar) < _HOLLOW * min(means[::bar]):
            return bar
    return 0


def _accent(pulses: Floats, first: int, places: tuple[float, ...], evidence: Evidence) -> float:
    """Mean accent at these places of bars of three pulses, to that of the first beat."""
    starts = np.arange(first, len(pulses) - 3 + 1e-6, 3)
    found = [evidence.accents(np.interp(starts + place, np.arange(len(pulses)), pulses)) for place in (0, *places)]
    return float(np.mean(found[1:]) / max(float(found[0].mean()), 1e-9))
