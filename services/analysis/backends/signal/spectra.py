"""A track's short-time spectrum, reduced to the features for beats, bars and sections."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Progress, Tuning
from services.analysis.backends.signal.features import mono, once
from services.analysis.backends.signal.tuning import STANDARD, tuning_of
from services.common.samples import Audio, Samples

SAMPLE_RATE_HZ = 22_050
HOP = 1024
_FRAME = 4096
_BLOCK_FRAMES = 256
_MEL_BANDS = 64
# Chroma is compressed by log(1 + 5 x), where x = 1 is a usual peak; 20 dB below, the result is still a quarter.
_COMPRESSION = 5.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Features of a song's short-time spectrum, one row every `HOP` samples.

    Args:
        chroma: [frames, 12], magnitudes around C5.
        bass: [frames, 12], the same around F2.
        mel: [frames, bands], power.
    """

    chroma: npt.NDArray[np.float32]
    bass: npt.NDArray[np.float32]
    mel: npt.NDArray[np.float32]


def spectrum_of(audio: Audio, progress: Progress) -> Spectrum:
    """The spectrum of a track, computed only once for beats and structure; see `spectrum`."""
    return once(audio, "spectrum", lambda: spectrum(mono(audio, SAMPLE_RATE_HZ), progress, tuning_of(audio)))


def spectrum(mix: Samples, progress: Progress, tuning: Tuning = STANDARD) -> Spectrum:
    """The spectrum of a song, computed in blocks, so that only the result grows with its length.

    Args:
        mix: mono [samples] at 22.05 kHz.
        progress: goes from 0 to 1.
        tuning: of the song; chroma are in this tuning.
    """
    import librosa
    from scipy import fft

    mel = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=_FRAME, n_mels=_MEL_BANDS, fmin=30.0).T
    window = np.hanning(_FRAME).astype(np.float32)
    blocks: list[tuple[npt.NDArray[np.float32], ...]] = []
    count = 1 + mix.size // HOP
    for first in range(0, count, _BLOCK_FRAMES):
        number = min(_BLOCK_FRAMES, count - first)
        middle = (first + number / 2) * HOP / SAMPLE_RATE_HZ
        treble, bass = _filters(round(float(tuning.at(np.array([middle]))[0]), 1))
        start = first * HOP - _FRAME // 2
        end = start + (number - 1) * HOP + _FRAME
        piece = np.pad(mix[max(0, start) : end], (max(0, -start), max(0, end - mix.size)))
        frames = np.lib.stride_tricks.sliding_window_view(piece, _FRAME)[::HOP]
        magnitudes = np.abs(fft.rfft(frames * window, axis=1))
        blocks.append((magnitudes @ treble, magnitudes @ bass, magnitudes**2 @ mel))
        progress((first + number) / count)
    return Spectrum(*(np.concatenate(parts).astype(np.float32) for parts in zip(*blocks, strict=True)))


@lru_cache(maxsize=4)
def _filters(cents: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """From a spectrum to treble and bass chroma, [bins, 12]."""
    import librosa

    treble, bass = (
        librosa.filters.chroma(sr=SAMPLE_RATE_HZ, n_fft=_FRAME, tuning=cents / 100, ctroct=centre, octwidth=width).T
        for centre, width in ((5.0, 2.0), (2.5, 1.0))
    )
    return treble, bass


def means(rows: npt.NDArray[np.float32], times: Floats, end: float) -> Floats:
    """Mean of the rows between each time and the next; at least one row each."""
    edges = np.clip(np.round(np.append(times, end) * SAMPLE_RATE_HZ / HOP).astype(int), 0, len(rows) - 1)
    first, last = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    return np.asarray(np.maximum((sums[last] - sums[first]) / (last - first)[:, None], 0.0))


def compressed(chroma: Floats) -> Floats:
    """Compresses chroma [steps, 12]; each step gets length 1."""
    usual = float(np.median(chroma.max(axis=1)))
    found = np.log1p(_COMPRESSION * chroma / max(usual, 1e-9))
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))
