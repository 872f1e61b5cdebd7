"""Integrated loudness after ITU-R BS.1770-5 and EBU R 128: K-weighting, 400 ms blocks, two gates."""

import numpy as np
import numpy.typing as npt

from services.common.samples import Samples

SILENCE_LUFS = -70.0
"""The absolute gate; reported when nothing is louder."""

_SUBBLOCKS_PER_SECOND = 10
_SUBBLOCKS_PER_BLOCK = 4
_RELATIVE_GATE_LU = -10.0
_OFFSET_LUFS = -0.691
_SURROUND = frozenset({"BL", "BR", "SL", "SR"})
_SURROUND_WEIGHT = 1.41
_SHELF_HZ = 1681.974450955533
_HIGH_PASS_HZ = 38.13547087602444


class LoudnessMeter:
    """Measures the integrated loudness of sound that arrives in blocks of any size.

    Args:
        sample_rate_hz: of the sound; the filters are made for it.
        channel_names: FFmpeg's names (`FL`, `LFE`, `SL` …): the LFE does not count, surround channels count 1.41 times.
    """

    def __init__(self, sample_rate_hz: int, channel_names: tuple[str, ...]) -> None:
        self._filter = _k_weighting(sample_rate_hz)
        self._state = np.zeros((len(self._filter), len(channel_names), 2))
        self._weights = np.array([_weight(name) for name in channel_names])
        self._length = max(round(sample_rate_hz / _SUBBLOCKS_PER_SECOND), 1)
        self._rest = np.zeros((len(channel_names), 0))
        self._powers: list[npt.NDArray[np.float64]] = []

    def add(self, block: Samples) -> None:
        """Adds the next block, float32 [channels, samples]."""
        from scipy.signal import sosfilt  # costs 70 MB and half a second, so only where it is used

        weighted, self._state = sosfilt(self._filter, block, axis=-1, zi=self._state)
        weighted = np.concatenate([self._rest, weighted], axis=1)
        count = weighted.shape[1] // self._length
        whole, self._rest = np.split(weighted, [count * self._length], axis=1)
        if count:
            energy = np.einsum("cks,cks->ck", *[whole.reshape(len(whole), count, self._length)] * 2) / self._length
            self._powers.append(self._weights @ energy)

    def lufs(self) -> float:
        """The integrated loudness so far, in LUFS; -70 for silence and for less than 400 ms."""
        powers = np.concatenate(self._powers) if self._powers else np.zeros(0)
        if len(powers) < _SUBBLOCKS_PER_BLOCK:
            return SILENCE_LUFS
        blocks = np.convolve(powers, np.full(_SUBBLOCKS_PER_BLOCK, 1 / _SUBBLOCKS_PER_BLOCK), mode="valid")
        loud = blocks[blocks > _power(SILENCE_LUFS)]
        if not len(loud):
            return SILENCE_LUFS
        gated = loud[loud > _power(_lufs(float(loud.mean())) + _RELATIVE_GATE_LU)]
        return _lufs(float(gated.mean()))


def _weight(channel_name: str) -> float:
    if channel_name in ("LFE", "LFE2"):
        return 0.0
    return _SURROUND_WEIGHT if channel_name in _SURROUND else 1.0


def _lufs(power: float) -> float:
    return _OFFSET_LUFS + 10 * float(np.log10(power))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET_LUFS) / 10))


def _k_weighting(sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """The two filters of BS.1770 for any rate, as second-order sections.

    The standard gives coefficients for 48 kHz only; the analogue parameters used here are libebur128's. A filter above
    half of the rate is left out: it would be unstable, and the sound has no such frequencies.
    """
    shelf, high_pass = _shelf(sample_rate_hz), _high_pass(sample_rate_hz)
    if sample_rate_hz > 2 * _SHELF_HZ:
        return np.array([shelf, high_pass])
    return np.array([high_pass if sample_rate_hz > 2 * _HIGH_PASS_HZ else (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)])


def _shelf(sample_rate_hz: int) -> tuple[float, ...]:
    shelf_gain = 10 ** (3.999843853973347 / 20)
    tan, q = np.tan(np.pi * _SHELF_HZ / sample_rate_hz), 0.7071752369554196
    edge = shelf_gain**0.4996667741545416
    norm = 1 + tan / q + tan**2
    feedback = (1.0, 2 * (tan**2 - 1) / norm, (1 - tan / q + tan**2) / norm)
    return (
        (shelf_gain + edge * tan / q + tan**2) / norm,
        2 * (tan**2 - shelf_gain) / norm,
        (shelf_gain - edge * tan / q + tan**2) / norm,
        *feedback,
    )


def _high_pass(sample_rate_hz: int) -> tuple[float, ...]:
    tan, q = np.tan(np.pi * _HIGH_PASS_HZ / sample_rate_hz), 0.5003270373238773
    norm = 1 + tan / q + tan**2
    return (1.0, -2.0, 1.0, 1.0, 2 * (tan**2 - 1) / norm, (1 - tan / q + tan**2) / norm)
