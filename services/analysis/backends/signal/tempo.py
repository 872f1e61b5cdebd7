"""Tempo from beat times."""

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

Floats = npt.NDArray[np.float64]


def tempo_of(times: Floats) -> float:
    """The tempo of a song in BPM: the median of the tempi around its beats; 0 with fewer than two beats.

    Args:
        times: beats in seconds, ascending.
    """
    return float(np.median(_local(times))) if len(times) > 1 else 0.0


def curve_of(times: Floats) -> tuple[TempoPoint, ...]:
    """The tempo around every fourth beat if the song's tempo drifts; empty if it is steady.

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


def _local(times: Floats) -> Floats:
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
