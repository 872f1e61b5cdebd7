"""The tuning of a track: how far its notes lie from A = 440 Hz.

Dressler and Streich, "Tuning Frequency Estimation Using Circular Statistics", ISMIR 2007: every spectral peak is an
angle, its distance from the nearest semitone, and the tuning is the mean direction. It is known only modulo a semitone.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Tuning, TuningPoint
from services.analysis.backends.signal.features import is_tonal, mono, once
from services.common.samples import Audio, Samples

SAMPLE_RATE_HZ = 11_025
FRAME, HOP = 8192, 2048
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 2000.0
# A peak counts if it is this many times as strong as the spectrum around it, and at most 40 dB below its frame's
# strongest.
_PROMINENCE = 4.0
_PROMINENCE_BINS = 32
_LEAST_STRENGTH = 0.01
# Agreement of the peaks: songs 0.35-0.9, a voice alone 0.2-0.5; noise and drums below 0.06.
_LEAST_AGREEMENT = 0.1
_FRAMES_AT_ONCE = 128

# Drift is measured in windows of 8 s. It counts if it is larger than 10 cents and than this many times the difference
# between two windows that follow each other.
_WINDOW_SECONDS, _STEP_SECONDS = 8.0, 4.0
_LEAST_DRIFT_CENTS = 10.0
_LEAST_DRIFT = 3.0
_SMOOTHED_WINDOWS = 3
_FEWEST_WINDOWS = 6

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

STANDARD = Tuning(cents=0.0, confidence=0.0)
"""The tuning of a track without notes."""


def tuning_of(audio: Audio) -> Tuning:
    """The tuning of a track, computed once for all backends."""
    return once(audio, "tuning", lambda: tuning(mono(audio, SAMPLE_RATE_HZ)) if is_tonal(audio) else STANDARD)


def tuning(mix: Samples) -> Tuning:
    """The tuning of a mix, and its drift; its error is 1 to 2 cents.

    Args:
        mix: mono [samples] at 11.025 kHz.
    """
    directions, weights = _directions(mix)
    if drift := _drift(directions, weights):
        return drift
    total, mean = float(weights.sum()), complex(directions.sum())
    if total <= 0 or abs(mean) < _LEAST_AGREEMENT * total:
        return STANDARD
    return Tuning(_cents(mean), min(1.0, abs(mean) / total))


def _cents(direction: complex) -> float:
    return float(np.angle(direction)) / (2 * np.pi) * 100


def _directions(mix: Samples) -> tuple[Complex, Floats]:
    """The sum of each frame's peaks as complex numbers, whose angle is their tuning, and of their weights: [frames]."""
    padded = np.pad(mix, FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    window = np.hanning(FRAME).astype(np.float32)
    hz_per_bin = SAMPLE_RATE_HZ / FRAME
    first, last = int(_LOWEST_HZ / hz_per_bin), int(_HIGHEST_HZ / hz_per_bin)
    directions, weights = np.zeros(len(frames), np.complex128), np.zeros(len(frames))
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        block = slice(start, start + _FRAMES_AT_ONCE)
        magnitudes = np.abs(np.fft.rfft(frames[block] * window, axis=1))[:, first - 1 : last + 2].astype(np.float64)
        left, middle, right = magnitudes[:, :-2], magnitudes[:, 1:-1], magnitudes[:, 2:]
        floor = _around(middle)
        loud = middle > _LEAST_STRENGTH * middle.max(axis=1, keepdims=True, initial=1e-9)
        frame, peak = np.nonzero((middle > left) & (middle >= right) & (middle > _PROMINENCE * floor) & loud)
        # The vertex of a parabola through the logarithms of three bins.
        a, b, c = (np.log(np.maximum(part[frame, peak], 1e-12)) for part in (left, middle, right))
        offset = 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)
        semitones = 12 * np.log2((first + peak + offset) * hz_per_bin / 440)
        weight = np.sqrt(middle[frame, peak])
        np.add.at(directions, start + frame, weight * np.exp(2j * np.pi * semitones))
        np.add.at(weights, start + frame, weight)
    return directions, weights


def _around(magnitudes: Floats) -> Floats:
    """The mean of the bins around each bin, [frames, bins]."""
    half = _PROMINENCE_BINS
    sums = np.cumsum(np.pad(magnitudes, ((0, 0), (half + 1, half)), mode="edge"), axis=1)
    width = 2 * half + 1
    return np.asarray((sums[:, width:] - sums[:, :-width]) / width)


def _drift(directions: Complex, weights: Floats) -> Tuning | None:
    """The tuning over time; None if it is steady, or the song too short to tell."""
    per_second = SAMPLE_RATE_HZ / HOP
    half = round(_WINDOW_SECONDS * per_second / 2)
    centres = np.arange(half, len(directions) - half, round(_STEP_SECONDS * per_second))
    if len(centres) < _FEWEST_WINDOWS:
        return None
    found, total = (_sums(values, centres, half) for values in (directions, weights))
    agreement = float(np.abs(found).sum() / max(float(total.sum()), 1e-9))
    clear = (np.abs(found) >= max(_LEAST_AGREEMENT, agreement / 2) * total) & (total > np.median(total) / 10)
    centres, found = centres[clear], found[clear]
    if len(centres) < _FEWEST_WINDOWS:
        return None
    cents = np.unwrap(np.angle(found)) / (2 * np.pi) * 100
    low, high = np.quantile(cents, (0.05, 0.95))
    apart = round(_WINDOW_SECONDS / _STEP_SECONDS)
    unsteady = float(np.median(np.abs(cents[apart:] - cents[:-apart])))
    if high - low <= max(_LEAST_DRIFT_CENTS, _LEAST_DRIFT * unsteady):
        return None
    edge = _SMOOTHED_WINDOWS // 2
    near = np.lib.stride_tricks.sliding_window_view(np.pad(cents, edge, mode="edge"), _SMOOTHED_WINDOWS)
    cents = np.median(near, axis=1)
    cents -= 100 * np.round(np.median(cents) / 100)
    points = zip((centres / per_second).tolist(), cents.tolist(), strict=True)
    return Tuning(float(np.median(cents)), min(1.0, agreement), tuple(TuningPoint(*point) for point in points))


def _sums(values: npt.NDArray[Any], centres: npt.NDArray[np.int64], half: int) -> npt.NDArray[Any]:
    sums = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
    return np.asarray(sums[centres + half] - sums[centres - half])
