"""Finds the beats among the pulses that a tracker follows.

Trackers follow quavers in slow songs, and crotchets or quavers if a beat has three parts. The bars show this: a
bar never begins at the second half of another, there is an accent in the middle of bars, or there are no beats within
them.
"""

from dataclasses import dataclass

import numpy as np

from services.analysis.backends.beats.evidence import Evidence, Floats

# Above this tempo people tap every second pulse, other things being equal: half an octave above 105 BPM.
_EVEN_BPM = 150.0
_SLOWEST_GROUPED_BPM = 96.0
# Contrast of downbeats with pulses half a period later: log odds of the network plus standard deviations of harmony.
# Synthesised songs at double tempo 1.8-6; others below 2.5 in total and below 0.9 for the network.
_LEAST_CONTRAST = 2.1
_LEAST_VOTES = 0.9
_MOST_VOTES = 4.0
# Accent in the middle of bars of three, minus that of their second and third beats, relative to that of the first: 3/4
# at most 0.15 (waltzes -0.8), 6/8 and 12/8 at least 0.25.
_LEAST_MIDDLE = 0.2
# Probability of beats within bars, relative to that of their beginning: up to 0.15 if chords are held, else above 0.35.
_HOLLOW = 0.2
# A bar is a quiet 3/4 if accents at its thirds are this much stronger than at its quarters; held chords at most 0.05.
_LEAST_THIRDS = 0.1
_FASTEST_FILLED_BPM = 170.0
_BINARY_BEATS = 4


@dataclass(frozen=True, slots=True)
class Level:
    """Which pulses are beats: the pulse `start`, and one every `step` pulses before and after it.

    Args:
        start: index of a pulse.
        step: 2 if every second pulse is a beat, 0.5 if there is one more beat between two pulses.
        ternary: whether a beat is known to have three parts.
        reliable_every: only one in this many pulses has a reliable time, counted from `start`; the others are ignored.
    """

    start: int = 0
    step: float = 1.0
    ternary: bool = False
    reliable_every: int = 1

    def beats(self, pulses: Floats) -> Floats:
        """The times of the beats in seconds, [beats].

        Args:
            pulses: times of the pulses in seconds, [pulses].
        """
        numbers = np.arange(len(pulses))
        last = self.start + (len(pulses) - 1 - self.start) // self.reliable_every * self.reliable_every
        kept = (numbers < self.start) | (numbers > last) | ((numbers - self.start) % self.reliable_every == 0)
        places = np.arange(self.start % self.step, len(pulses) - 1 + 1e-6, self.step)
        return np.asarray(np.interp(places, numbers[kept], pulses[kept]))


def find_level(pulses: Floats, per_bar: int, evidence: Evidence) -> Level:
    """Finds the beats among a tracker's pulses.

    Args:
        pulses: times in seconds, at least two bars of them.
        per_bar: pulses in a bar according to the tracker, 3 or 4.
        evidence: of the song.
    """
    downbeats = evidence.downbeats(pulses)
    first = best_phase(downbeats, per_bar)
    bpm = 60 / float(np.median(np.diff(pulses)))
    if bpm > _SLOWEST_GROUPED_BPM and _is_grouped(pulses, 2 * per_bar, bpm, evidence):
        # Harmony is not used, because off-beat chords would point to the wrong half.
        start = best_phase(evidence.votes(pulses, _MOST_VOTES), 2 * per_bar)
        return Level(start, 3, ternary=True) if per_bar == 3 else Level(start, 2)
    bar = _hollow_bar(pulses, per_bar, first, evidence)
    thirds = _accent(pulses, first, (1, 2), evidence) if per_bar == 3 else 0.0
    if bar == 3 and thirds - _accent(pulses, first, (0.75, 1.5, 2.25), evidence) > _LEAST_THIRDS:
        return Level()
    if bar and bpm * _BINARY_BEATS / bar <= _FASTEST_FILLED_BPM:
        return Level(first, bar / _BINARY_BEATS, reliable_every=bar)
    if per_bar == 3 and _accent(pulses, first, (1.5,), evidence) - thirds > _LEAST_MIDDLE:
        return Level(first, 1.5, ternary=True)
    return Level()


def best_phase(evidence: Floats, period: int) -> int:
    """The first index of the pulses, `period` apart, that have the most evidence."""
    return int(np.argmax([evidence[phase::period].mean() for phase in range(period)]))


def _is_grouped(pulses: Floats, period: int, bpm: float, evidence: Evidence) -> bool:
    """Whether bars have `period` pulses at `bpm`, not half as many, so that a beat is a group of pulses."""
    votes = _contrast(evidence.votes(pulses, _MOST_VOTES), period)
    contrast = votes + _contrast(evidence.changes(pulses), period)
    return votes > _LEAST_VOTES and contrast + 2 * np.log2(bpm / _EVEN_BPM) > _LEAST_CONTRAST


def _contrast(evidence: Floats, period: int) -> float:
    """The difference between the evidence where it is highest and half a period later."""
    first = best_phase(evidence, period)
    return float(evidence[first::period].mean() - evidence[(first + period // 2) % period :: period].mean())


def _hollow_bar(pulses: Floats, per_bar: int, first: int, evidence: Evidence) -> int:
    """The number of pulses in a bar, if the network finds no beats within bars; 0 if it does."""
    pulse = evidence.pulse(pulses)
    means = [float(pulse[(first + place) % per_bar :: per_bar].mean()) for place in range(per_bar)]
    for bar in (2, per_bar) if per_bar == 4 else (per_bar,):
        if max(mean for place, mean in enumerate(means) if place % bar) < _HOLLOW * min(means[::bar]):
            return bar
    return 0


def _accent(pulses: Floats, first: int, places: tuple[float, ...], evidence: Evidence) -> float:
    """Mean accent at places in bars of three pulses, relative to that of the first beat."""
    starts = np.arange(first, len(pulses) - 3 + 1e-6, 3)
    found = [evidence.accents(np.interp(starts + place, np.arange(len(pulses)), pulses)) for place in (0, *places)]
    return float(np.mean(found[1:]) / max(float(found[0].mean()), 1e-9))
