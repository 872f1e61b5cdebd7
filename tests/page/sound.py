"""What was heard, measured against what should have been heard."""

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve

Mono = npt.NDArray[np.float64]

BINS_PER_SEMITONE = 4


def place_of(heard: Mono, song: Mono) -> int:
    """The sample of `song` at which `heard` begins, by their cross-correlation."""
    return int(np.argmax(fftconvolve(song, heard[::-1], mode="valid")))


def residual_db(heard: Mono, song: Mono) -> float:
    """What is left of `heard` when the same stretch of `song` is taken away, in dB of the latter."""
    start = place_of(heard, song)
    expected = song[start : start + len(heard)]
    return float(10 * np.log10(np.sum((heard - expected) ** 2) / np.sum(expected**2)))


def semitones_between(heard: Mono, song: Mono, sample_rate_hz: int) -> float:
    """By how many semitones the spectrum of `heard` lies above that of `song`."""
    one, other = (_log_spectrum(sound, sample_rate_hz) for sound in (heard, song))
    lags = np.arange(-14 * BINS_PER_SEMITONE, 14 * BINS_PER_SEMITONE + 1)
    likeness = [np.sum(one * np.roll(other, lag)) for lag in lags]
    return float(lags[int(np.argmax(likeness))] / BINS_PER_SEMITONE)


def _log_spectrum(sound: Mono, sample_rate_hz: int) -> Mono:
    """Mean magnitudes from 60 to 4000 Hz in fractions of a semitone, in dB about their mean."""
    size = 16384
    windows = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // 2] * np.hanning(size)
    magnitudes = np.abs(np.fft.rfft(windows, axis=1)).mean(axis=0)
    steps = np.arange(0, 12 * BINS_PER_SEMITONE * np.log2(4000 / 60))
    wanted = 60 * 2 ** (steps / (12 * BINS_PER_SEMITONE))
    levels = 20 * np.log10(np.interp(wanted, np.fft.rfftfreq(size, 1 / sample_rate_hz), magnitudes) + 1e-9)
    smooth = np.convolve(levels, np.ones(49) / 49, mode="same")
    return np.asarray(levels - smooth)


def tempo_ratio(heard: Mono, song: Mono, sample_rate_hz: int) -> float:
    """How much faster `heard` runs than `song`: the ratio at which their loudness curves agree best."""
    hop = sample_rate_hz // 200
    one, other = (_loudness(sound, hop) for sound in (heard, song))
    ratios = np.arange(0.4, 2.2, 0.01)

    def agreement(ratio: float) -> float:
        run = np.interp(np.arange(0, len(other), ratio), np.arange(len(other)), other)
        if len(run) < len(one):
            return -1.0
        ones = np.ones(len(one))
        both = fftconvolve(run, (one - one.mean())[::-1], mode="valid")
        energy = fftconvolve(run**2, ones, mode="valid") - fftconvolve(run, ones, mode="valid") ** 2 / len(one)
        # Where hardly anything happens, chance is all there is.
        return float(np.max(both / np.sqrt(np.maximum(energy, 0.2 * energy.max()))))

    return float(ratios[int(np.argmax([agreement(ratio) for ratio in ratios]))])


def _loudness(sound: Mono, hop: int) -> Mono:
    frames = sound[: len(sound) // hop * hop].reshape(-1, hop)
    levels = 20 * np.log10(np.sqrt((frames**2).mean(axis=1)) + 1e-4)
    return np.asarray(np.maximum(np.diff(levels, prepend=levels[0]), 0))
