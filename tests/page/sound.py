"""Compares recorded sound with the expected sound."""

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve

Mono = npt.NDArray[np.float64]

BINS_PER_SEMITONE = 4


def place_of(heard: Mono, song: Mono) -> int:
    """The sample of `song` at which `heard` begins, by their cross-correlation."""
    return int(np.argmax(fftconvolve(song, heard[::-1], mode="valid")))


def residual_db(heard: Mono, song: Mono) -> float:
    """The residual of `heard` minus the same span of `song`, in dB relative to the latter."""
    start = place_of(heard, song)
    expected = song[start : start + len(heard)]
    left = max(float(np.sum((heard - expected) ** 2)), 1e-20)
    return float(10 * np.log10(left / np.sum(expected**2)))


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


def tempo_ratio(heard: Mono, song: Mono, sample_rate_hz: int, begins: tuple[float, float]) -> float:
    """How much faster `heard` runs than `song`: the ratio at which levels in wide bands agree best.

    The bands are wide enough for a pitch that is a few semitones off. `begins` has the earliest and the latest second
    of the song at which `heard` may begin.
    """
    hop = sample_rate_hz // 100
    one, other = (_band_levels(sound, hop, sample_rate_hz) for sound in (heard, song))
    places = np.arange(other.shape[1])
    earliest, latest = (int(second * 100) for second in begins)

    def agreement(ratio: float) -> float:
        run = np.arange(one.shape[1]) * ratio
        starts = range(earliest, min(latest, int(len(places) - run[-1])), 2)
        return max(float(np.mean(one * [np.interp(at + run, places, band) for band in other])) for at in starts)

    ratios = np.arange(0.5, 2.0, 0.02)
    return float(ratios[int(np.argmax([agreement(ratio) for ratio in ratios]))])


def _band_levels(sound: Mono, hop: int, sample_rate_hz: int) -> Mono:
    """Levels in dB in wide bands, each about its mean and by its deviation: [bands, frames]."""
    size = 2048
    windows = np.lib.stride_tricks.sliding_window_view(sound, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    bands = np.digitize(np.fft.rfftfreq(size, 1 / sample_rate_hz), (60, 200, 600, 1800, 5400, 15000))
    levels = 10 * np.log10(np.stack([power[:, bands == band].sum(axis=1) for band in range(1, 6)]) + 1e-4)
    return np.asarray((levels - levels.mean(axis=1, keepdims=True)) / levels.std(axis=1, keepdims=True))


def onsets(sound: Mono, sample_rate_hz: int) -> list[float]:
    """Seconds at which a loud sound begins after a tenth of a second without one."""
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    begins = np.diff(loud, prepend=-sample_rate_hz) > sample_rate_hz // 10
    return [float(at / sample_rate_hz) for at in loud[begins]]


def longest_silence(sound: Mono, sample_rate_hz: int) -> float:
    """Seconds of the longest time below -80 dB."""
    loud = np.flatnonzero(np.abs(sound) > 1e-4)
    return float(np.diff(loud, prepend=0, append=len(sound)).max() / sample_rate_hz)
