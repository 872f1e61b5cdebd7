"""Spectrograms for networks: real and imaginary parts are channels of their own."""

import torch
from torch import Tensor
from torch.nn.functional import pad


class Spectrogram:
    """The short-time Fourier transform of waves of any number of channels, and its inverse, in float32.

    Frames are centred: frame 0 is centred on the first sample, beyond which the wave is mirrored.
    """

    def __init__(
        self,
        n_fft: int,
        hop: int,
        bins: int | None = None,
        *,
        window: Tensor | None = None,
        normalized: bool = False,
    ) -> None:
        """Chooses the transform.

        Args:
            n_fft: samples in a frame.
            hop: samples between the starts of neighbouring frames.
            bins: number of bins that are used, from the lowest on; None for all `n_fft / 2 + 1`. The inverse takes the
                others as zero.
            window: float32, at most `n_fft` samples, centred in the frame if it is shorter; None for a Hann window.
            normalized: divide the spectrum by the square root of `n_fft`.
        """
        self.n_fft = n_fft
        self.hop = hop
        self.bins = n_fft // 2 + 1 if bins is None else bins
        self._window = torch.hann_window(n_fft) if window is None else window
        self._normalized = normalized

    def split(self, wave: Tensor) -> Tensor:
        """The spectrum of waves.

        Args:
            wave: float32 [batch, channels, samples], more than `n_fft / 2` samples.

        Returns:
            float32 [batch, 2 * channels, bins, frames]: for each channel its real, then its imaginary part;
            `samples // hop + 1` frames.
        """
        batch, channels, samples = wave.shape
        spectrum = torch.stft(
            wave.reshape(-1, samples),
            self.n_fft,
            self.hop,
            self._window.shape[0],
            self._window.to(wave.device),
            normalized=self._normalized,
            return_complex=True,
        )
        parts = torch.view_as_real(spectrum[:, : self.bins]).permute(0, 3, 1, 2)
        return parts.reshape(batch, 2 * channels, self.bins, -1)

    def join(self, spectrum: Tensor, samples: int) -> Tensor:
        """The waves of a spectrum.

        Args:
            spectrum: float32 [batch, 2 * channels, bins, frames], as `split` returns it.
            samples: length of the waves, at most `hop * (frames - 1)`.

        Returns:
            float32 [batch, channels, samples].
        """
        batch, parts, bins, frames = spectrum.shape
        pairs = pad(spectrum, (0, 0, 0, self.n_fft // 2 + 1 - bins)).reshape(batch * parts // 2, 2, -1, frames)
        wave = torch.istft(
            torch.view_as_complex(pairs.permute(0, 2, 3, 1).contiguous()),
            self.n_fft,
            self.hop,
            self._window.shape[0],
            self._window.to(spectrum.device),
            normalized=self._normalized,
            length=samples,
        )
        return wave.reshape(batch, parts // 2, samples)
