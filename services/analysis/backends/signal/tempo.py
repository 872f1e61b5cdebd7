"""Tempo from beat times."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import TempoPoint

SLOWEST_BPM = 55.0
FASTEST_BPM = 215.0
# Beats on both sides that count; then a tracker's frames of 10-23 ms change the tempo by less than 0.2 %.
_SPAN_BEATS = 8
# Relative difference between the slowest and the fastest twentieth of tempi; at most 0.02 for songs with one tempo.
_STEADY = 0.03
_BEATS_PER_POINT = 4
# The tempo changes where the medians of 8 intervals before and after a beat differ by more than this share, between two
# pieces of at least this many beats.
_CHANGE = 0.02
_LEAST_PIECE = 12

Floats = npt.NDArray[np.float64]


def tempo_of(times: Floats) -> float:
    """The tempo of a song in BPM: the median of the tempi around its beats; 0 with fewer than two beats.

    If the tempo changes, it is that of the longest piece.

    Args:
        times: beats in seconds, ascending.
    """
    if len(times) < 2:
        return 0.0
    edges = [0, *changes_of_tempo(times), len(times)]
    first, stop = max(pairwise(edges), key=lambda piece: float(times[piece[1] - 1] - times[piece[0]]))
    return float(np.median(_local_of_piece(times[first:stop])))


def curve_of(times: Floats) -> tuple[TempoPoint, ...]:
    """The tempo around every fourth beat if the song's tempo drifts or changes; empty if it is steady.

    Args:
        times: beats in seconds, ascending.
    """
    if len(times) <= 2 * _SPAN_BEATS:
        return ()
    local = _local(times)
    slow, usual, fast = np.quantile(local, (0.05, 0.5, 0.95))
    if fast - slow < _STEADY * usual:
        return ()
    return tuple(
        TempoPoint(float(time), float(bpm))
        for time, bpm in zip(times[::_BEATS_PER_POINT], local[::_BEATS_PER_POINT], strict=True)
    )


def in_range(bpm: float) -> float:
    """The tempo doubled or halved into the range in which people tap (55 to 215 BPM, as in madmom's tracker)."""
    while bpm > FASTEST_BPM:
        bpm /= 2
    while 0 < bpm < SLOWEST_BPM:
        bpm *= 2
    return bpm


def changes_of_tempo(times: Floats) -> list[int]:
    """The indices of the beats at which another tempo begins; a slow drift is no change.

    Args:
        times: beats in seconds, ascending.
    """
    intervals = np.diff(times)
    if len(intervals) < 2 * _LEAST_PIECE:
        return []
    medians = np.median(np.lib.stride_tricks.sliding_window_view(intervals, _SPAN_BEATS), axis=1)
    # From beat `_SPAN_BEATS` on, the intervals after a beat compared with those before it.
    differences = np.abs(np.log(medians[_SPAN_BEATS:] / medians[:-_SPAN_BEATS]))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], differences > _CHANGE, [False]])))
    found = [
        _SPAN_BEATS + int(start + np.argmax(differences[start:end]))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]
    pieces = _merged([0, *(beat for beat in found if _is_sudden(intervals, beat)), len(times)], times)
    return [
        _border(intervals[first:stop], times[first:edge], times[edge:stop]) + first
        for first, edge, stop in zip(pieces[:-2], pieces[1:-1], pieces[2:], strict=True)
    ]


def _is_sudden(intervals: Floats, beat: int) -> bool:
    """Whether two tempi explain the intervals around a beat better than a straight line, a drift."""
    near = intervals[beat - _SPAN_BEATS : beat + _SPAN_BEATS]
    halves = near.reshape(2, -1)
    numbers = np.arange(len(near))
    drift = np.abs(near - np.polyval(np.polyfit(numbers, near, 1), numbers)).sum()
    return bool(np.abs(halves - np.median(halves, axis=1, keepdims=True)).sum() < drift)


def _border(intervals: Floats, before: Floats, after: Floats) -> int:
    """The number of intervals that belong to the first of two tempi."""
    slow, fast = (np.abs(intervals - _period(times)) for times in (before, after))
    errors = np.concatenate([[0.0], np.cumsum(slow)]) + np.concatenate([np.cumsum(fast[::-1])[::-1], [0.0]])
    return int(np.argmin(errors))


def _merged(edges: list[int], times: Floats) -> list[int]:
    """Joins the most similar neighbours as long as they have one tempo, or one of them is short."""
    while len(edges) > 2:
        periods = [_period(times[first:stop]) for first, stop in pairwise(edges)]
        differences = np.abs(np.diff(np.log(periods)))
        sizes = np.diff(edges)
        joint = np.flatnonzero((np.minimum(sizes[1:], sizes[:-1]) < _LEAST_PIECE) | (differences <= _CHANGE))
        if not joint.size:
            break
        del edges[1 + int(joint[np.argmin(differences[joint])])]
    return edges


def _period(times: Floats) -> float:
    """The usual interval, from intervals of several beats, so that a tracker's frames do not matter."""
    span = min(_SPAN_BEATS, len(times) - 1)
    return float(np.median(times[span:] - times[:-span])) / span if span else 1.0


def _local(times: Floats) -> Floats:
    """The tempo around each beat in BPM, from the beats near it that are in the same tempo."""
    edges = [0, *changes_of_tempo(times), len(times)]
    return np.concatenate([_local_of_piece(times[first:stop]) for first, stop in pairwise(edges)])


def _local_of_piece(times: Floats) -> Floats:
    """The tempo around each beat in BPM, from a straight line through the beats near it; allows for missing beats."""
    intervals = np.diff(times)
    counts = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(intervals / np.median(intervals))))])
    numbers = np.arange(len(times))
    first, last = np.maximum(numbers - _SPAN_BEATS, 0), np.minimum(numbers + _SPAN_BEATS, len(times) - 1) + 1

    def sums(values: Floats) -> Floats:
        total = np.concatenate([[0.0], np.cumsum(values)])
        return np.asarray(total[last] - total[first])

    size = sums(np.ones(len(times)))
    together = sums(counts * times) - sums(counts) * sums(times) / size
    alone = sums(counts**2) - sums(counts) ** 2 / size
    return np.asarray(60 * alone / together)
