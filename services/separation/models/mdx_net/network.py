"""MDX-Net: TFC-TDF U-Nets of the second version, in ONNX files, computed by OpenVINO on a CPU.

After M. Kim, W. Choi, J. Chung, D. Lee, S. Jung: "KUIELab-MDX-Net: A Two-Stream Neural Network for Music Demixing",
ISMIR MDX workshop 2021, arXiv 2111.12203. A network estimates one stem. As in Ultimate Vocal Remover, its input has no
bins below 3, the ends of a segment are not used, and the other stem is the mix without the first one times a factor.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.separation.models.mdx_net.parameters import HOP, Parameters
from services.separation.models.segmented.openvino_runtime import import_openvino
from services.separation.models.segmented.spectral_network import SpectralNetwork
from services.separation.models.segmented.spectrogram import Spectrogram

SILENT_BINS = 3
"""The lowest bins, which the networks get as zeros."""


class OnnxCore:
    """A `Core` in an ONNX file.

    Args:
        path: the file; its network has one input and one output, [segments, 4, bins, frames].
        precision: float32 or bfloat16.

    Raises:
        RuntimeError: OpenVINO cannot read the file or use its network.
    """

    def __init__(self, path: Path, parameters: Parameters, precision: str = "float32") -> None:
        openvino = import_openvino()
        core = openvino.Core()
        model = core.read_model(path)
        model.reshape([1, 4, parameters.bins, parameters.frames])  # a fixed shape is faster
        settings = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: Any = core.compile_model(model, "CPU", settings)

    @property
    def spectra(self) -> torch.device:
        """See `Core.spectra`."""
        return torch.device("cpu")

    def prepare(self, segments: int) -> None:
        """See `Core.prepare`. Does nothing."""

    def __call__(self, spectrum: Tensor) -> Tensor:
        """See `Core`. Computes segments one by one, because batches are not faster on a CPU."""
        inputs = spectrum.numpy().copy()
        inputs[:, :, :SILENT_BINS] = 0
        outputs = [self._compiled([part[None]])[0].copy() for part in inputs]
        return torch.from_numpy(np.concatenate(outputs))


def network_of(core: OnnxCore, parameters: Parameters) -> SpectralNetwork:
    """Makes a `Network` of a core."""
    length, margin = HOP * (parameters.frames - 1), parameters.n_fft // 2
    spectrogram = Spectrogram(parameters.n_fft, HOP, parameters.bins)
    return SpectralNetwork(core, spectrogram, length - 2 * margin, parameters.frames, margin=margin)
