"""Finds the boundaries of sections: evidence of several kinds at each bar, then the most probable division of the song.

The evidence is: a change of timbre; Foote's checkerboard (ICME 2000); Serrà's structure features (AAAI 2012), which
find a bar from which the song repeats other places than before; the start of a long repetition; a cymbal. A logistic
regression turns it into the probability of a boundary. Dynamic programming combines this with the usual lengths of
sections, in seconds and in bars (Sargent, Bimbot and Vincent, "Estimating the Structural Segmentation of Popular Music
Pieces under Regularity Constraints", TASLP 25, 2017).
"""

from dataclasses import dataclass

import numpy as np

from services.analysis.backends.structure.bars import Bars, Floats

# Number of bars on each side that each kind of evidence uses.
_TIMBRE_BARS = 4
_CHECKERBOARD_BARS = 8
_FEATURES_BARS = 2
_REPETITION_BARS = 8
_CYMBAL_BARS = 4
_PEAK_BARS = 2
_REPETITIONS = 2

# Fitted by logistic regression to 60 synthesised songs (General MIDI, ten forms, madmom's bars). The intercept is
# raised by 1.5, about the cost of a boundary in the division below; from 1.2 to 2.2, boundary F at 3 s is within 0.02
# of its best.
_WEIGHTS = np.array([1.9, 0.75, 4.1, 1.45, 1.0])
_INTERCEPT = 1.1

# Log-probabilities of a section's length: preferably a multiple of 8 bars, else of 4, else of 2; and about 16 s, with
# a standard deviation of a factor of 1.6. At the song's ends less is known. Halving or doubling the weights changes the
# score on the synthesised songs by at most 0.01.
_UNEVEN = {8: 0.0, 4: -0.2, 2: -0.6, 1: -1.0}
_USUAL_SECONDS = 16.0
_SECONDS_WEIGHT = 2.0
_END_WEIGHT = 0.3
_SHORTEST_BARS = 2
_LONGEST_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Bars where sections begin.

    Args:
        bars: ascending indices; the first is 0.
        probabilities: that each is a boundary, without regard to the others; 1 for the first.
    """

    bars: list[int]
    probabilities: list[float]


def find_boundaries(bars: Bars, duration: float) -> Boundaries:
    """Divides a song into sections.

    Args:
        bars: of the song, at least one.
        duration: of the song, in seconds.
    """
    log_odds = evidence(bars) @ _WEIGHTS + _INTERCEPT
    chosen = _divide(log_odds, np.append(bars.starts, duration))
    probabilities = 1 / (1 + np.exp(-log_odds))
    return Boundaries(chosen, [1.0, *(float(probabilities[bar]) for bar in chosen[1:])])


def evidence(bars: Bars) -> Floats:
    """The evidence for a boundary at each bar, [bars, 5]: timbre, checkerboard, features, repetition, cymbal.

    Each is the logarithm of the ratio to the song's median, so that songs with strong and weak contrasts are
    comparable. All except the checkerboard are then taken relative to the neighbouring bars.
    """
    features, repetition = _repetitions(bars.likeness)
    around = [bars.cymbals[max(0, i - _CYMBAL_BARS) : i + _CYMBAL_BARS + 1] for i in range(len(bars.cymbals))]
    cymbals = np.maximum(0.0, bars.cymbals - np.array([np.median(values) for values in around]))
    return np.stack(
        [
            _peaks(_relative(_timbre_change(bars.timbre))),
            _relative(checkerboard(bars.likeness, _CHECKERBOARD_BARS)),
            _peaks(_relative(features)),
            _peaks(_relative(repetition)),
            _peaks(_relative(cymbals)),
        ],
        axis=1,
    )


def checkerboard(likeness: Floats, width: int) -> Floats:
    """Foote's novelty at each bar: likeness within the `width` bars before and after, minus the likeness across."""
    place = np.arange(-width, width) + 0.5
    taper = np.exp(-0.5 * (place / (0.6 * width)) ** 2) * np.sign(place)
    kernel = np.outer(taper, taper)
    np.fill_diagonal(kernel, 0.0)
    kernel /= np.abs(kernel).sum()
    padded = np.pad(likeness, width)
    return np.array([np.sum(kernel * padded[i : i + 2 * width, i : i + 2 * width]) for i in range(len(likeness))])


def _timbre_change(timbre: Floats) -> Floats:
    """Distance between the mean spectra of the bars before and after, reduced if there are few of them."""
    after, before = _running_means(timbre, _TIMBRE_BARS)
    return np.asarray(np.linalg.norm(after - before, axis=1) * np.sqrt(_fullness(len(timbre), _TIMBRE_BARS)))


def _repetitions(likeness: Floats) -> tuple[Floats, Floats]:
    """The novelty of structure features, and how clearly long repetitions start, at each bar.

    Compares the means of the bars before and after along each diagonal of the likeness, that is for two places of the
    song at a fixed distance. Each diagonal contributes at both places.
    """
    count = len(likeness)
    change = np.zeros(count)
    compared = np.zeros(count)
    starting = np.full((_REPETITIONS + 1, count), -1.0)
    for lag in range(1, count):
        diagonal = np.diagonal(likeness, lag)
        after, before = _running_means(np.maximum(diagonal, 0.0) ** 2, _FEATURES_BARS)
        whole = _fullness(len(diagonal), _FEATURES_BARS) >= 1
        long_after, long_before = _running_means(diagonal, _REPETITION_BARS)
        start = np.where(
            np.arange(len(diagonal)) + _REPETITION_BARS <= len(diagonal),
            np.maximum(long_after, 0.0) * (long_after - long_before),
            -1.0,
        )
        for places in (slice(0, count - lag), slice(lag, count)):
            change[places] += np.where(whole, (after - before) ** 2, 0.0)
            compared[places] += whole
            starting[0, places] = start
            starting[:, places] = np.sort(starting[:, places], axis=0)
    features = np.sqrt(change / np.maximum(compared, 1.0)) * _fullness(count, _FEATURES_BARS)
    return features, np.maximum(starting[1:].mean(axis=0), 0.0)


def _running_means(rows: Floats, width: int) -> tuple[Floats, Floats]:
    """Means of the `width` rows from each row on, and of those before it; 0 if there are none."""
    sums = np.concatenate([np.zeros((1, *rows.shape[1:])), np.cumsum(rows, axis=0)])
    here = np.arange(len(rows))
    first, last = np.maximum(here - width, 0), np.minimum(here + width, len(rows))
    shape = (-1, *(1,) * (rows.ndim - 1))
    after = (sums[last] - sums[here]) / (last - here).reshape(shape)
    before = (sums[here] - sums[first]) / np.maximum(here - first, 1).reshape(shape)
    return after, before


def _fullness(count: int, width: int) -> Floats:
    """The share of the `width` rows that exist, on the side of each row with fewer rows."""
    here = np.arange(count)
    return np.asarray(np.minimum(np.minimum(here, count - here), width) / width)


def _relative(values: Floats) -> Floats:
    values = np.maximum(values, 0.0)
    if not np.any(values > 0):
        return np.zeros_like(values)
    return np.asarray(np.clip(np.log((values + 1e-9) / np.median(values[values > 0])), -2.0, 3.0))


def _peaks(values: Floats) -> Floats:
    """The difference of each value to the highest of its neighbours, in [-1, 1]."""
    padded = np.pad(values, _PEAK_BARS, constant_values=-np.inf)
    neighbours = [
        padded[_PEAK_BARS + i : _PEAK_BARS + i + len(values)] for i in range(-_PEAK_BARS, _PEAK_BARS + 1) if i
    ]
    return np.asarray(np.clip(values - np.max(neighbours, axis=0), -1.0, 1.0))


def _divide(log_odds: Floats, times: Floats) -> list[int]:
    """The division with the highest sum of its boundaries' log-odds and its sections' log-probabilities.

    Args:
        log_odds: of a boundary at each bar.
        times: starts of the bars, and the song's end.
    """
    count = len(log_odds)
    best = np.zeros(count + 1)
    previous = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        starts = np.arange(end)
        lengths = end - starts
        seconds = np.maximum(times[end] - times[:end], 1e-3)
        at_end = (starts == 0) | (end == count)
        prior = _UNEVEN[1] + np.zeros(end)
        for unit in (2, 4, 8):
            prior[lengths % unit == 0] = _UNEVEN[unit]
        octaves = -_SECONDS_WEIGHT * np.log(seconds / _USUAL_SECONDS) ** 2
        prior = np.where(at_end, _END_WEIGHT, 1.0) * prior
        prior += np.where(at_end & (seconds < _USUAL_SECONDS), _END_WEIGHT, 1.0) * octaves
        prior[~at_end & ((lengths < _SHORTEST_BARS) | ((seconds > _LONGEST_SECONDS) & (lengths > 1)))] = -np.inf
        scores = best[:end] + prior
        previous[end] = int(np.argmax(scores))
        best[end] = scores[previous[end]] + (log_odds[end] if end < count else 0.0)
    chosen = []
    place = count
    while place > 0:
        place = int(previous[place])
        chosen.append(place)
    return chosen[::-1]
