"""Cores by OpenVINO on CPUs. They are converted once, and kept in a folder for later starts."""

from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from services.separation.models.base import Hardware
from services.separation.models.segmented.openvino_conversion import Conversion, traced
from services.separation.models.segmented.openvino_runtime import why_not
from services.separation.models.segmented.precision import Precision, precision_of
from services.separation.models.segmented.spectral_network import Core, TorchCore, torch_core

log = structlog.get_logger(__name__)

WORTH_SEGMENTS = 3
"""Number of segments from which on a conversion pays. It takes about as long as one or two segments in torch."""
FORM = 1
"""Version of the converted form. Kept networks of another version are converted again."""


class OpenVinoCore:
    """A `Core` whose module is converted when there is enough to compute; until then it runs in torch.

    Args:
        module: maps spectra as `Core` does; on the CPU.
        bins: number of bins.
        frames: number of frames of a segment.
        traced_frames: a number of frames that the module can take, small to convert it quickly.
        precision: float32 or bfloat16.
        folder: folder for converted networks; None not to keep them.
        version: version of the weights; another version is converted again.
    """

    def __init__(
        self,
        module: nn.Module,
        bins: int,
        frames: int,
        traced_frames: int,
        precision: Precision,
        folder: Path | None,
        version: str,
    ) -> None:
        self._module = module
        self._shape = (1, 4, bins, frames)
        self._traced_frames = min(frames, traced_frames)
        self._conversion = Conversion(f"{version} {FORM} {self._shape}", precision, folder)
        self._eager: TorchCore | None = TorchCore(module, torch.device("cpu"), getattr(torch, precision))
        self._compiled: Any = None
        self._asked = 0

    @property
    def spectra(self) -> torch.device:
        """See `Core.spectra`."""
        return torch.device("cpu")

    def prepare(self, segments: int) -> None:
        """Compiles the network if it is converted already, or if there are enough segments for a conversion to pay."""
        self._asked += segments
        if self._compiled is None and (self._conversion.is_kept or self._asked >= WORTH_SEGMENTS):
            self._compiled = self._conversion.compile(self._convert)
            self._eager = None  # frees its weights
            del self._module

    @torch.inference_mode()
    def __call__(self, spectrum: Tensor) -> Tensor:
        """See `Core`. Computes segments one by one, because batches are not faster on a CPU."""
        if self._eager is not None:
            return self._eager(spectrum)
        return torch.cat([torch.from_numpy(self._compiled([part[None].numpy()])[0].copy()) for part in spectrum])

    def _convert(self) -> Any:
        example = torch.zeros(*self._shape[:3], self._traced_frames)
        return traced(self._module, [example], [self._shape])


def core_of(module: nn.Module, bins: int, frames: int, traced_frames: int, hardware: Hardware, version: str) -> Core:
    """Makes the fastest core of a module on this hardware; see `OpenVinoCore` for the arguments."""
    device = torch.device(hardware.device)
    if device.type != "cpu" or why_not():
        return torch_core(module, hardware)
    precision = precision_of(device, hardware.precision)
    log.info("network runs in OpenVINO", precision=precision, kind=type(module).__module__)
    return OpenVinoCore(module, bins, frames, traced_frames, precision, hardware.cache, version)
