"""Sample rate and channel conversion: soxr for the rate, FFmpeg's mixing matrices for the channels."""

import functools
from dataclasses import dataclass
from typing import Self

import numpy as np
import soxr
from av import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from services.common.samples import Samples

_QUALITY = "HQ"
_NAMELESS = {4: "quad", 6: "5.1", 8: "7.1"}
"""The most likely layout of channels without names, by their number."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rate and channels of decoded sound.

    Args:
        sample_rate_hz: samples per second.
        channels: how many.
        name: FFmpeg's name of the channel layout, e.g. `stereo`, `5.1(side)`, or `3 channels` if they have no names.
    """

    sample_rate_hz: int
    channels: int
    name: str

    @classmethod
    def of(cls, frame: AudioFrame) -> Self:
        """The layout of a decoded frame."""
        return cls(frame.sample_rate, frame.layout.nb_channels, frame.layout.name)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """FFmpeg's names of the channels in their order, e.g. `FL`, `LFE`; `NONE` for those without."""
        name = _NAMELESS.get(self.channels, self.name) if self.name.endswith(" channels") else self.name
        return tuple(channel.name for channel in AudioLayout(name).channels)


class Converter:
    """Converts blocks of one layout to another rate and number of channels, keeping state between blocks.

    Mono becomes equal channels at unity level. More than two channels are mixed to two with FFmpeg's matrix (ITU-R
    BS.775 weights, LFE left out), scaled so that full scale in all channels stays within full scale. Channels that
    FFmpeg cannot place are averaged: those without names, unless 4, 6 or 8, and Ambisonics. A file that goes from more
    channels to fewer keeps them in place and leaves the others silent.

    Args:
        source: the layout of the input.
        sample_rate_hz: of the output.
        channels: of the output.
    """

    def __init__(self, source: Layout, sample_rate_hz: int, channels: int) -> None:
        self.source = source
        self._channels = channels
        self._matrix = None if source.channels == channels else _mixing_matrix(source.name, source.channels, channels)
        self._stream = (
            None
            if source.sample_rate_hz == sample_rate_hz
            else soxr.ResampleStream(source.sample_rate_hz, sample_rate_hz, channels, "float32", _QUALITY)
        )

    def convert(self, block: Samples) -> Samples:
        """Converts the next block; float32 [channels, samples], which may be longer or shorter than the rates imply."""
        mixed = block if self._matrix is None else self._matrix @ block
        return mixed if self._stream is None else self._resample(mixed, last=False)

    def flush(self) -> Samples:
        """Returns the samples that the resampler still holds after the last block."""
        nothing = np.empty((self._channels, 0), np.float32)
        return nothing if self._stream is None else self._resample(nothing, last=True)

    def _resample(self, block: Samples, last: bool) -> Samples:
        assert self._stream is not None
        resampled: Samples = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last)
        return resampled.T


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Changes the sample rate with soxr's high quality.

    Args:
        samples: float32 [channels, samples] at `from_hz`.
        from_hz: rate of `samples`.
        to_hz: rate of the result.

    Returns:
        float32 [channels, round(samples * to_hz / from_hz)], contiguous; `samples` itself if the rates are equal.
    """
    if from_hz == to_hz:
        return samples
    return np.ascontiguousarray(soxr.resample(samples.T, from_hz, to_hz, quality=_QUALITY).T, dtype=np.float32)


@functools.lru_cache(maxsize=64)
def _mixing_matrix(name: str, source: int, target: int) -> Samples:
    """float32 [target, source]."""
    if source == 1:
        return np.ones((target, 1), np.float32)
    if target > 2:
        return np.eye(target, source, dtype=np.float32)
    mean = np.full((target, source), 1 / source, np.float32)
    if name.endswith(" channels"):
        if source == 2:
            name = "stereo"
        elif source in _NAMELESS:
            name = _NAMELESS[source]
        else:
            return mean
    # FFmpeg's matrix is found by mixing one impulse per channel.
    impulses = AudioFrame.from_ndarray(np.eye(source, dtype=np.float32).reshape(1, -1), format="flt", layout=name)
    impulses.sample_rate = 48000
    mixer = AudioResampler("flt", "stereo" if target == 2 else "mono", 48000, options={"rematrix_maxval": "1.0"})
    try:
        mixed = [frame.to_ndarray() for frame in mixer.resample(impulses) + mixer.resample(None)]
    except FFmpegError:
        return mean
    return np.ascontiguousarray(np.concatenate(mixed, axis=1).reshape(source, target).T)
