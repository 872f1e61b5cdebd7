"""HTDemucs on a CPU by OpenVINO (Intel, Apache 2): 2.2 times as fast as torch in float32, 2.6 times in bfloat16.

The network is traced and converted once (2 s for the full size) and kept in a folder. Later starts compile the kept
network (under 1 s). Songs for which the conversion takes longer than it saves run in torch.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.separation.models.demucs import htdemucs_layers
from services.separation.models.demucs.htdemucs_network import HTDemucsTorchNetwork, Transforms
from services.separation.models.segmented.openvino_conversion import Conversion, traced
from services.separation.models.segmented.precision import Precision

WORTH_SEGMENTS = 6
"""Number of segments from which on a conversion pays (a song of 35 s). With saving and compiling it takes 3 s, or 5 s
on a busy machine, and saves 0.6 s (bfloat16) to 1.2 s (float32) for each segment."""
TRACED_FRAMES = 8
"""Frames of the segment with which the network is traced. All 336 give the same graph, in twice the time and with 0.9
GB more memory."""
FORM = 2
"""Version of the converted form. Kept networks of another version are converted again."""


class OpenVinoNetwork:
    """A `Network` around one HTDemucs.

    Args:
        model: an `HTDemucs` of demucs on the CPU, for which `htdemucs_layers.suits` is true.
        precision: float32 or bfloat16.
        folder: folder for converted networks; None not to keep them.
        version: version of the weights; another version is converted again.
    """

    def __init__(self, model: Any, precision: Precision, folder: Path | None, version: str) -> None:
        self._model = model.requires_grad_(False)
        self._transforms = Transforms(model)
        self._conversion = Conversion(f"{version} {FORM}", precision, folder)
        self._compiled: Any = None
        self._asked = 0
        self._eager = HTDemucsTorchNetwork(model, torch.device("cpu"), precision)
        self.segment_samples = int(model.samplerate * model.segment)

    def prepare(self, segments: int) -> None:
        """Compiles the network if it is converted already, or if there are enough segments for a conversion to pay."""
        self._asked += segments
        if self._compiled is None and (self._conversion.is_kept or self._asked >= WORTH_SEGMENTS):
            self._compiled = self._conversion.compile(self._convert)

    def valid_length(self, _samples: int) -> int:
        """See `Network`. It is always the length of the segments in training."""
        return self.segment_samples

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network`. Computes segments one by one, because batches are not faster on a CPU."""
        if self._compiled is None:
            return self._eager(batch)
        return torch.cat([self._separate(wave[None]) for wave in batch])

    def _separate(self, wave: Tensor) -> Tensor:
        results = self._compiled([part.numpy() for part in self._inputs(wave)])
        spectrum, waves = (torch.from_numpy(results[output]) for output in self._compiled.outputs)
        return self._transforms.join_channels_last(spectrum[0], waves[0, 0])[None]

    def _inputs(self, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spectrum = self._transforms.split(wave)
        return wave, spectrum, htdemucs_layers.levels_of(wave, spectrum)

    def _convert(self) -> Any:
        inputs = self._inputs(torch.zeros(1, 2, self.segment_samples))
        # A few frames give the same graph as a whole segment, in a fraction of the time. The segment is shortened by a
        # whole number of frames, so that the padding stays the same.
        surplus = max(0, inputs[1].shape[-1] - TRACED_FRAMES)
        short = self._inputs(torch.zeros(1, 2, self.segment_samples - surplus * self._model.hop_length))
        return traced(htdemucs_layers.Core(self._model), short, [part.shape for part in inputs])
