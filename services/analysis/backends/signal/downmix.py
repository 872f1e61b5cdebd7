"""Mixes a track to mono without losing what has opposite phases in its two channels.

The plain mean of the channels loses it: all of a song with one inverted channel, a voice that was made wide by
inverting it, a band after a faulty crossover. There, the right channel is inverted before the mean is taken. Such
downmixes by the phase of each band are usual for surround sound (Faller and Schillebeeckx, "Improved ITU and Matrix
Surround Downmixing", AES 130, 2011). All other music gets the plain mean, sample for sample.
"""

import numpy as np
import numpy.typing as npt

from services.common.samples import Samples

# A bit less than 0.1 s; a power of two, so that transforms are quick.
_FRAME_SECONDS = 0.1
_FRAMES_AT_ONCE = 256
_LOWEST_HZ, _BANDS_PER_OCTAVE = 50.0, 3
_FEWEST_BINS = 4
# Power of the mean relative to the mean power of the channels: 1 if they are equal, 0.5 if they are unrelated or one is
# silent, 0 if they are opposite. Below the first value they count as opposite; between the two, in part.
_OPPOSITE, _UNRELATED = 0.1, 0.25
# Share of an octave's energy that is opposite. Unrelated channels (wide reverb, double-tracked guitars) at most 0.02;
# an inverted voice in a band 0.2 and more.
_LEAST_SHARE = 0.1
# And of the song's, so that coding noise does not count.
_LEAST_ENERGY = 1e-5

Powers = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def downmix(samples: Samples, sample_rate_hz: int) -> Samples:
    """The mean of the channels, except where the two channels of a track are opposite.

    Args:
        samples: float32 [channels, samples].
        sample_rate_hz: of the samples.

    Returns:
        float32 [samples], finite.
    """
    mix: Samples = samples.mean(axis=0, dtype=np.float32)
    if not np.isfinite(mix).all():
        samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
        mix = np.nan_to_num(mix, posinf=0.0, neginf=0.0)
    frame = 2 ** int(np.log2(_FRAME_SECONDS * sample_rate_hz))
    if len(samples) != 2 or mix.size < frame:
        return mix
    edges = _edges(frame, sample_rate_hz)
    if _has_opposite_band(samples, frame, edges):
        mix -= _opposite_part(samples, frame, edges)
    return mix


def _edges(frame: int, sample_rate_hz: int) -> npt.NDArray[np.int64]:
    """The first bin of each band, and the end of the last one; low bands are wider, because they need some bins."""
    octaves = np.arange(0, np.log2(sample_rate_hz / 2 / _LOWEST_HZ), 1 / _BANDS_PER_OCTAVE)
    wanted = _LOWEST_HZ * 2**octaves * frame / sample_rate_hz
    edges = [0]
    for edge in [*np.round(wanted).astype(int), frame // 2 + 1]:
        if edge - edges[-1] >= _FEWEST_BINS:
            edges.append(int(edge))
    edges[-1] = frame // 2 + 1
    return np.array(edges)


def _has_opposite_band(samples: Samples, frame: int, edges: npt.NDArray[np.int64]) -> bool:
    """Whether the channels are opposite in much of an octave. It hears half of the song."""
    window = np.hanning(frame).astype(np.float32)
    views = [np.lib.stride_tricks.sliding_window_view(channel, frame)[:: 2 * frame] for channel in samples]
    opposite, total = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for start in range(0, len(views[0]), _FRAMES_AT_ONCE):
        left, right = (np.fft.rfft(view[start : start + _FRAMES_AT_ONCE] * window) for view in views)
        power, kept = _powers(left, right, edges)
        opposite += np.where(kept < _OPPOSITE * power, power, 0).sum(axis=0)
        total += power.sum(axis=0)
    octaves = [np.convolve(part, np.ones(_BANDS_PER_OCTAVE), "same") for part in (opposite, total)]
    return bool(np.any((octaves[0] > _LEAST_SHARE * octaves[1]) & (octaves[0] > _LEAST_ENERGY * octaves[1].sum())))


def _powers(
    left: npt.NDArray[np.complexfloating], right: npt.NDArray[np.complexfloating], edges: npt.NDArray[np.int64]
) -> Powers:
    """The mean power of the channels, and the power of their mean, in each band: [frames, bands] each."""
    power = (np.abs(left) ** 2 + np.abs(right) ** 2) / 2
    kept = np.abs((left + right) / 2) ** 2
    first, second = (np.add.reduceat(part, edges[:-1], axis=1) for part in (power, kept))
    return first, second


def _opposite_part(samples: Samples, frame: int, edges: npt.NDArray[np.int64]) -> Samples:
    """The right channel, where it is opposite to the left one: [samples]."""
    hop = frame // 4
    window = np.hanning(frame + 1)[:-1].astype(np.float32)
    channels = [np.pad(channel, (frame, 2 * frame)) for channel in samples]
    views = [np.lib.stride_tricks.sliding_window_view(channel, frame)[::hop] for channel in channels]
    found = np.zeros(channels[0].size, np.float32)
    for start in range(0, len(views[0]), _FRAMES_AT_ONCE):
        left, right = (np.fft.rfft(view[start : start + _FRAMES_AT_ONCE] * window) for view in views)
        power, kept = _powers(left, right, edges)
        ratio = kept / (power + 1e-20)
        share = np.clip((_UNRELATED - ratio) / (_UNRELATED - _OPPOSITE), 0, 1)
        parts = np.fft.irfft(right * np.repeat(share, np.diff(edges), axis=1)) * window
        for number, part in enumerate(parts, start):
            found[number * hop : number * hop + frame] += part
    # The squared windows add up to 1.5.
    return np.asarray(found[frame : frame + samples.shape[1]] / 1.5, np.float32)
