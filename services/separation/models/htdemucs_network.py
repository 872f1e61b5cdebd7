"""HTDemucs with its spectrogram outside the network, so that what is left is real numbers that compilers can take.

The network's own code is demucs' (`HTDemucs.forward`); only its four transforms are replaced while it runs.
"""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from services.separation.models.base import Samples

Precision = Literal["float32", "bfloat16", "float16"]


class Core(nn.Module):
    """From waveform and spectrogram of the mix to both branches' stems.

    `forward(wave [batch, 2, samples], spectrum [batch, 4, bins, frames])` gives the frequency branch's spectrum
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
        return 0.0  # what demucs adds to the time branch; `Transforms.join` does it later


class Transforms:
    """The spectrogram of a model and its inverse; always in float32."""

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


class HTDemucsTorchNetwork:
    """HTDemucs in torch: on a GPU with half precision inside the network, copies beside the computing.

    A further stream copies the stems back while the next batch is computed; pinned memory lets it. (No GPU was at hand
    when this was written: `tests/separation` runs it on a CPU, where the streams fall away.)
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

    def valid_length(self, _samples: int) -> int:
        """See `Network`: always the length it was trained on."""
        return self.segment_samples

    @torch.inference_mode()
    def __call__(self, pieces: Samples) -> Samples:
        """See `Network`."""
        wave = torch.from_numpy(pieces)
        if self._device.type == "cuda":
            wave = wave.pin_memory().to(self._device, non_blocking=True)
        spectrum = self._transforms.split(wave)
        with torch.autocast(self._device.type, self._type, enabled=self._type != torch.float32):
            stems, waves = self._core(wave, spectrum)
        joined: Samples = self._transforms.join(stems.float(), waves.float()).cpu().numpy()
        return joined
