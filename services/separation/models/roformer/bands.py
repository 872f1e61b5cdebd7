"""The overlapping bands of Mel-Band RoFormer: triangles on Slaney's mel scale, as `librosa.filters.mel` has them."""

import numpy as np
import numpy.typing as npt

LINEAR_HZ = 200 / 3  # width of a mel below the break
BREAK_HZ = 1000.0
LOG_STEP = np.log(6.4) / 27  # logarithm of the ratio of neighbouring mels above the break


def mel_bands(sample_rate_hz: int, n_fft: int, count: int) -> tuple[tuple[int, ...], ...]:
    """The bins of the spectrum in each band.

    Args:
        sample_rate_hz: sample rate of the mix.
        n_fft: length of the transform in samples.
        count: number of bands.

    Raises:
        ValueError: a bin is in no band, so there are too few bands, or a band is empty, so there are too many.
    """
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate_hz)
    if count > len(bins):
        raise ValueError(f"of {count} bands some are empty")
    corners = _hz(np.linspace(0, _mel(sample_rate_hz / 2), count + 2))
    ramps = corners[:, None] - bins[None]
    widths = np.diff(corners)[:, None]
    inside = np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]).astype(np.float32) > 0
    inside[0, 0] = inside[-1, -1] = True  # the ends, where the triangles are zero
    if not inside.any(axis=0).all():
        raise ValueError(f"{count} bands leave a part of the spectrum out")
    if not inside.any(axis=1).all():
        raise ValueError(f"of {count} bands some are empty")
    return tuple(tuple(int(each) for each in np.flatnonzero(band)) for band in inside)


def _mel(hz: float) -> float:
    if hz < BREAK_HZ:
        return hz / LINEAR_HZ
    return float(BREAK_HZ / LINEAR_HZ + np.log(hz / BREAK_HZ) / LOG_STEP)


def _hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    knee = BREAK_HZ / LINEAR_HZ
    above = BREAK_HZ * np.exp(LOG_STEP * (np.maximum(mels, knee) - knee))
    return np.where(mels < knee, mels * LINEAR_HZ, above)
