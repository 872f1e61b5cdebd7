"""Waveform peaks for drawing, in the binary format of BBC audiowaveform (`.dat`, version 2, 8 bit).

peaks.js and waveform-data.js read that format as it is. All numbers are little-endian: int32 version (2), uint32 flags
(1: 8 bit), int32 sample rate, int32 samples per pixel, uint32 number of pixels, int32 channels (1 here); then for each
pixel int8 minimum and int8 maximum, full scale at 127.
"""

import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from services.common.errors import InvalidInputError
from services.common.samples import Samples

PIXELS_PER_SECOND = 100

_HEADER = struct.Struct("<iIiiIi")
_VERSION = 2
_EIGHT_BIT = 1
_FULL_SCALE = 127


@dataclass(frozen=True, slots=True)
class Peaks:
    """The envelope of all channels together.

    Args:
        sample_rate_hz: of the sound.
        samples_per_pixel: number of samples in one pair.
        pairs: int8 [pixels, 2]: minimum and maximum, full scale at 127.
    """

    sample_rate_hz: int
    samples_per_pixel: int
    pairs: npt.NDArray[np.int8]

    def to_bytes(self) -> bytes:
        """The audiowaveform `.dat` file."""
        header = _HEADER.pack(_VERSION, _EIGHT_BIT, self.sample_rate_hz, self.samples_per_pixel, len(self.pairs), 1)
        return header + self.pairs.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads the bytes of `to_bytes`.

        Raises:
            InvalidInputError: reason NOT_PEAKS.
        """
        if len(data) >= _HEADER.size:
            version, flags, rate, samples_per_pixel, length, channels = _HEADER.unpack_from(data)
            body = data[_HEADER.size :]
            if (version, flags, channels) == (_VERSION, _EIGHT_BIT, 1) and len(body) == 2 * length:
                return cls(rate, samples_per_pixel, np.frombuffer(body, np.int8).reshape(length, 2))
        raise InvalidInputError("not a file of waveform peaks", "NOT_PEAKS")


class PeakMeter:
    """Collects peaks from sound that arrives in blocks of any size."""

    def __init__(self, sample_rate_hz: int, pixels_per_second: int = PIXELS_PER_SECOND) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._samples_per_pixel = max(sample_rate_hz // pixels_per_second, 1)
        # The envelope of the channels, because in their mean opposite phases would cancel out.
        self._rest: Samples = np.zeros((2, 0), np.float32)
        self._pairs: list[npt.NDArray[np.float32]] = []

    def add(self, block: Samples) -> None:
        """Adds the next block, float32 [channels, samples]."""
        envelope = np.concatenate([self._rest, np.stack([block.min(axis=0), block.max(axis=0)])], axis=1)
        count = envelope.shape[1] // self._samples_per_pixel
        whole, self._rest = np.split(envelope, [count * self._samples_per_pixel], axis=1)
        if count:
            pixels = whole.reshape(2, count, self._samples_per_pixel)
            self._pairs.append(np.stack([pixels[0].min(axis=1), pixels[1].max(axis=1)], axis=1))

    def peaks(self) -> Peaks:
        """The peaks so far; the last pixel may have fewer samples."""
        pairs = list(self._pairs)
        if self._rest.shape[1]:
            pairs.append(np.array([[self._rest[0].min(), self._rest[1].max()]], np.float32))
        levels = np.concatenate(pairs) if pairs else np.zeros((0, 2), np.float32)
        scaled = np.clip(np.rint(levels * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE).astype(np.int8)
        return Peaks(self._sample_rate_hz, self._samples_per_pixel, scaled)


def peaks_of(samples: Samples, sample_rate_hz: int, pixels_per_second: int = PIXELS_PER_SECOND) -> Peaks:
    """The peaks of float32 [channels, samples] that are already in memory, e.g. of a stem."""
    meter = PeakMeter(sample_rate_hz, pixels_per_second)
    meter.add(samples)
    return meter.peaks()
