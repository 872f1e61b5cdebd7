"""Networks that work on spectrograms: the spectrum of the mix in, the spectra of its stems out."""

from typing import Protocol

import structlog
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from services.separation.models.base import Hardware
from services.separation.models.segmented.precision import precision_of
from services.separation.models.segmented.spectrogram import Spectrogram

log = structlog.get_logger(__name__)

GPU_BATCH = 4
"""Segments in a batch on a GPU; `Batches` halves it if they do not fit into memory."""


class Core(Protocol):
    """The part of a network between its spectrograms, on any device and in any precision."""

    @property
    def spectra(self) -> torch.device:
        """The device on which spectrograms should be computed for it."""
        ...

    def prepare(self, segments: int) -> None:
        """Prepares for a song with this number of segments."""
        ...

    def __call__(self, spectrum: Tensor) -> Tensor:
        """Estimates the stems' spectra.

        Args:
            spectrum: float32 [segments, 4, bins, frames] of the mix, see `Spectrogram.split`.

        Returns:
            float32 [segments, stems * 4, bins, frames].
        """
        ...


class TorchCore:
    """A `Core` in torch."""

    def __init__(self, module: nn.Module, device: torch.device, precision: torch.dtype = torch.float32) -> None:
        """Takes over the module.

        Args:
            module: maps spectra as `Core` does; put into evaluation mode and moved to the device.
            device: where it computes.
            precision: float32, or float16 or bfloat16 for the layers that tolerate it.
        """
        self._module = module.eval().requires_grad_(False).to(device)
        self._device = device
        self._precision = precision

    @property
    def spectra(self) -> torch.device:
        """See `Core.spectra`. Not all other devices have the transforms."""
        return self._device if self._device.type == "cuda" else torch.device("cpu")

    def prepare(self, segments: int) -> None:
        """See `Core.prepare`. Does nothing."""

    @torch.inference_mode()
    def __call__(self, spectrum: Tensor) -> Tensor:
        """See `Core`. The result stays on the device."""
        with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
            stems: Tensor = self._module(spectrum.to(self._device))
        return stems.float()


def torch_core(module: nn.Module, hardware: Hardware) -> TorchCore:
    """Makes a core in torch, in the precision that suits the hardware."""
    device = torch.device(hardware.device)
    precision = precision_of(device, hardware.precision)
    log.info("network runs in torch", device=hardware.device, precision=precision, kind=type(module).__module__)
    return TorchCore(module, device, getattr(torch, precision))


def batch_of(hardware: Hardware) -> int:
    """Segments in a batch: one on a CPU, where larger batches are not faster."""
    return GPU_BATCH if torch.device(hardware.device).type == "cuda" else 1


class SpectralNetwork:
    """A `Network` around a core and its spectrogram."""

    def __init__(
        self,
        core: Core,
        spectrogram: Spectrogram,
        segment_samples: int,
        frames: int,
        *,
        margin: int = 0,
    ) -> None:
        """Combines them.

        Args:
            core: estimates the stems.
            spectrogram: its transforms.
            segment_samples: see `Network.segment_samples`.
            frames: number of frames that the core takes; silence fills those after the segment and its margins.
            margin: samples around a segment that the core gets, but whose output is not used.
        """
        self._core = core
        self._spectrogram = spectrogram
        self._frames = frames
        self._margin = margin
        self.segment_samples = segment_samples

    def prepare(self, segments: int) -> None:
        """See `Network.prepare`."""
        self._core.prepare(segments)

    def valid_length(self, _samples: int) -> int:
        """See `Network.valid_length`. It is always the length of the segments in training."""
        return self.segment_samples + 2 * self._margin

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network`."""
        segments, channels, samples = batch.shape
        wave = pad(batch.to(self._core.spectra), (0, self._spectrogram.hop * (self._frames - 1) - samples))
        spectrum = self._core(self._spectrogram.split(wave)).to(self._core.spectra)
        stems = spectrum.reshape(-1, 2 * channels, *spectrum.shape[2:])
        return self._spectrogram.join(stems, samples).view(segments, -1, channels, samples)
