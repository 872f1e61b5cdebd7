"""Tempo from beat times."""

import numpy as np
import numpy.typing as npt

SLOWEST_BPM = 55.0
FASTEST_BPM = 215.0
_SPAN_BEATS = 16


def tempo_of(times: npt.NDArray[np.float64]) -> float:
    """Beats per minute of a song, 0 with fewer than two beats.

    The median over all spans of 16 beats: a tracker's frames of 10-23 ms then hardly matter (a single interval at
    150 BPM is off by up to 5 %), and breaks do not shift it. Beats that the tracker lost are counted in.

    Args:
        times: beats in seconds, ascending.
    """
    span = min(_SPAN_BEATS, len(times) - 1)
    if span < 1:
        return 0.0
    intervals = np.diff(times)
    counts = np.concatenate([[0], np.cumsum(np.round(intervals / np.median(intervals)))])
    return float(np.median(60 * (counts[span:] - counts[:-span]) / (times[span:] - times[:-span])))


def in_range(bpm: float) -> float:
    """The octave of a tempo in which people tap (55 to 215 BPM, as madmom's tracker has it)."""
    while bpm > FASTEST_BPM:
        bpm /= 2
    while 0 < bpm < SLOWEST_BPM:
        bpm *= 2
    return bpm
