"""Converts FFmpeg's frames to float32, and brings float files of another scale to full scale."""

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from services.common.audio.conversion import Layout
from services.common.samples import Samples

MAX_AMPLITUDE = 1000.0
"""60 dB above full scale."""

_FULL_SCALE = {"u8": 1 / 128, "s16": 1 / 32768, "s32": 1 / 2147483648, "flt": 1.0, "dbl": 1.0}
_LOUDEST = 8.0
"""18 dB above full scale, more than any mix of floats has."""
_INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)
_MAX_EXPONENT, _MIN_EXPONENT = 1024, -150
_OUTLIERS = 1e-4
"""Share of the samples that may be louder than the rest without being part of the music."""


class Unpacker:
    """Converts frames of any sample format to float32 [channels, samples], full scale at 1.

    Args:
        scale: by which float samples are multiplied, see `Levels.scale`.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._packers: dict[tuple[str, Layout], AudioResampler] = {}
        self._factors = _FULL_SCALE | {"flt": scale, "dbl": scale}

    def __call__(self, frame: AudioFrame) -> Samples:
        """Converts a frame."""
        channels = frame.layout.nb_channels
        if frame.format.is_planar and channels >= 8:
            # PyAV looks for a null pointer after the planes of a frame; from 8 channels on FFmpeg puts none there.
            frame = self._packed(frame)
        raw = frame.to_ndarray()
        if not frame.format.is_planar:
            raw = raw.reshape(-1, channels).T
        kind = frame.format.packed.name
        if kind == "u8":
            raw = raw.astype(np.float32) - np.float32(128)
        factor = self._factors[kind]
        if kind == "s32":
            # A float32 holds 24 bits: 24-bit sound stays exact, 32-bit sound is rounded to 24 bits.
            return (raw * factor).astype(np.float32)
        with np.errstate(all="ignore"):
            if kind == "dbl" and factor != 1.0:
                return (raw * factor).astype(np.float32)
            return np.multiply(raw, np.float32(factor), dtype=np.float32, casting="unsafe")

    def _packed(self, frame: AudioFrame) -> AudioFrame:
        key = (frame.format.name, Layout.of(frame))
        if key not in self._packers:
            self._packers[key] = AudioResampler(frame.format.packed, frame.layout, frame.sample_rate)
        (packed,) = self._packers[key].resample(frame)
        return packed


class Levels:
    """Finds the scale of a file of floats, in which some programs write integers without dividing them."""

    def __init__(self) -> None:
        self._counts = np.zeros(_MAX_EXPONENT - _MIN_EXPONENT + 1, np.int64)
        self._peaks = np.zeros_like(self._counts, np.float64)

    def add(self, block: Samples) -> None:
        """Counts samples by their size, in powers of two."""
        sizes = np.abs(block[np.isfinite(block)].astype(np.float64))
        sizes = sizes[sizes > 0]
        exponents = np.clip(np.frexp(sizes)[1], _MIN_EXPONENT, _MAX_EXPONENT) - _MIN_EXPONENT
        self._counts += np.bincount(exponents, minlength=len(self._counts))
        np.maximum.at(self._peaks, exponents, sizes)

    def scale(self) -> float:
        """The factor that brings the file to full scale; 1 if it is not louder than any mix.

        Few samples far above all others are damage, not its level. A file in the range of 16, 24 or 32 bit integers is
        divided by that range, any other by its peak.
        """
        above = np.cumsum(self._counts[::-1])[::-1]
        heard = np.flatnonzero(above > _OUTLIERS * self._counts.sum())
        peak = float(self._peaks[heard[-1]]) if len(heard) else 0.0
        if peak <= _LOUDEST:
            return 1.0
        return 1 / next((full for full in _INTEGER_SCALES if full / 256 < peak <= full), peak)


def silence_absurd(block: Samples) -> int:
    """Makes samples silent that are NaN, infinite or absurdly large, which no model can use; returns their number."""
    if np.abs(block).max(initial=0) <= MAX_AMPLITUDE:
        return 0
    absurd = ~(np.abs(block) <= MAX_AMPLITUDE)
    block[absurd] = 0
    return int(absurd.sum())
