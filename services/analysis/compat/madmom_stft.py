"""madmom's short-time Fourier transform for many frames at once.

madmom transforms frame by frame, as complex numbers, which takes 2.2 s for a song of three minutes; this takes 0.5 s.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft


def replace_stft() -> None:
    """Replaces madmom's `stft` by the one here; madmom must have been imported."""
    import madmom.audio.stft

    madmom.audio.stft.stft = stft


def stft(
    frames: Any,
    window: npt.NDArray[Any] | None,
    fft_size: int | None = None,
    circular_shift: bool = False,
    include_nyquist: bool = False,
    fftw: None = None,
) -> npt.NDArray[np.complex64]:
    """The spectra complex64 [frames, bins] of a `FramedSignal`.

    Args:
        frames: madmom's `FramedSignal` of a mono signal.
        window: [frame size], or None.
        fft_size: frames are padded or cut to this size; None: the frame size.
        circular_shift: needed for the phase; not supported.
        include_nyquist: whether to include the highest bin.
        fftw: not supported.

    Raises:
        NotImplementedError: `circular_shift` or `fftw` is set.
    """
    if circular_shift or fftw is not None:
        raise NotImplementedError("only magnitudes are computed here, by scipy")
    size = int(frames.frame_size)
    # For integer samples, which come from files, the window also scales them to [-1, 1].
    blocks = _frames(frames) * np.asarray(1 if window is None else window, np.float32)
    length = fft_size or size
    spectra: npt.NDArray[np.complex64] = rfft(blocks, length, axis=1)
    return spectra[:, : length // 2 + include_nyquist]


def _frames(frames: Any) -> npt.NDArray[Any]:
    """[frames, frame size], zeros beyond the signal; they lie as `madmom.audio.signal.signal_frame` lays them."""
    signal, size = np.asarray(frames.signal), int(frames.frame_size)
    starts = (np.arange(frames.num_frames) * frames.hop_size).astype(int) - size // 2 - int(frames.origin)
    if not len(starts):
        return np.zeros((0, size), signal.dtype)
    begin, end = int(starts[0]), int(starts[-1]) + size
    piece = np.pad(signal[max(0, begin) : max(0, end)], (max(0, -begin), max(0, end - len(signal))))
    framed: npt.NDArray[Any] = np.lib.stride_tricks.sliding_window_view(piece, size)[starts - starts[0]]
    return framed
