"""HTDemucs with its spectrogram outside the network. The rest has only real numbers, which compilers support.

The network runs the code of demucs (`HTDemucs.forward`); only its four transforms are replaced.
"""

import copy
from typing import Any

import numpy as np
import torch
from scipy.fft import irfft
from torch import Tensor, nn

from services.separation.models.segmented.precision import Precision


class Core(nn.Module):
    """Computes the stems of both branches from the waveform and the spectrogram of a mix.

    `forward(wave [batch, 2, samples], spectrum [batch, 4, bins, frames])` returns the frequency branch's spectrum
    [batch, stems, 4, bins, frames] (real and imaginary parts as channels) and the time branch's waveform
    [batch, stems, 2, samples].
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        network = copy.copy(model.eval())  # shares the weights; the transforms below belong to the copy
        network._spec = lambda wave: wave
        network._magnitude = lambda _wave: self._spectrum
        network._mask = lambda _spectrum, stems: stems
        network._ispec = self._keep
        self._network = network

    def forward(self, wave: Tensor, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        self._spectrum = spectrum
        waves = self._network(wave)
        return self._stems, waves

    def _keep(self, stems: Tensor, _length: int) -> float:
        self._stems = stems
        return 0.0  # demucs adds this to the time branch; `Transforms.join` adds the stems later


class Transforms:
    """The spectrogram of a model, and its inverse, always in float32."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def split(self, wave: Tensor) -> Tensor:
        """The spectrum [batch, 4, bins, frames] of waves [batch, 2, samples]."""
        spectrum: Tensor = self._model._magnitude(self._model._spec(wave))
        return spectrum

    def join(self, spectrum: Tensor, waves: Tensor) -> Tensor:
        """The stems [batch, stems, 2, samples] of both branches."""
        stems: Tensor = self._model._ispec(self._model._mask(None, spectrum), waves.shape[-1])
        return stems.add_(waves)

    def join_channels_last(self, spectrum: Tensor, waves: Tensor) -> Tensor:
        """The stems of one segment whose channels come last. On a CPU this takes a quarter of the time of `join`.

        Args:
            spectrum: [bins, frames, stems * 4].
            waves: [samples, stems * 2].

        Returns:
            [stems, 2, samples].
        """
        size, hop = int(self._model.nfft), int(self._model.hop_length)
        samples, channels = waves.shape
        frames = torch.from_numpy(irfft(spectrum.numpy().view(np.complex64), n=size, axis=0, workers=-1))
        overlapping = size // hop
        # `overlapping` windows cover each sample. Their squares have the same sum everywhere.
        window = torch.hann_window(size)
        window *= size**0.5 / window.square().view(overlapping, hop).sum(dim=0)[0]
        pieces = (frames * window[:, None, None]).view(overlapping, hop, -1, channels)
        total = torch.zeros(hop, frames.shape[1] + overlapping - 1, channels)
        for number, piece in enumerate(pieces):
            total[:, number : number + frames.shape[1]] += piece
        start = hop // 2 * 3
        stems = total.permute(2, 1, 0).flatten(1)[:, start : start + samples] + waves.t()
        return stems.view(-1, 2, samples)


class HTDemucsTorchNetwork:
    """HTDemucs in torch, with half precision inside the network if `precision` asks for it.

    On a GPU, segments are copied from pinned memory while the previous one is computed. The tests run on a CPU, without
    these copies.
    """

    def __init__(self, model: Any, device: torch.device, precision: Precision) -> None:
        self._core = Core(model.to(device))
        self._transforms = Transforms(model)
        self._device = device
        self._type = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
        self.segment_samples = int(model.samplerate * model.segment)
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
            torch.backends.cudnn.allow_tf32 = precision != "float32"

    def prepare(self, segments: int) -> None:
        """See `Network.prepare`. Does nothing."""

    def valid_length(self, _samples: int) -> int:
        """See `Network`. It is always the length of the segments in training."""
        return self.segment_samples

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network`. The sources stay on the device."""
        if self._device.type == "cuda":
            batch = batch.pin_memory().to(self._device, non_blocking=True)
        spectrum = self._transforms.split(batch)
        with torch.autocast(self._device.type, self._type, enabled=self._type != torch.float32):
            stems, waves = self._core(batch, spectrum)
        return self._transforms.join(stems.float(), waves.float())
