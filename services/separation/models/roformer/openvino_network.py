"""A RoFormer on a CPU by OpenVINO (Intel, Apache 2), in about 0.4 of the time of the reference in torch.

The network between the transforms is traced and converted once, and kept in a folder. Later starts compile the kept
network and do not load the checkpoint. Songs for which the conversion takes longer than it saves run in torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.separation.models.roformer.config import RoFormerConfig
from services.separation.models.roformer.network import RoFormer, Transforms
from services.separation.models.roformer.torch_network import TorchNetwork, as_waves, of_segments
from services.separation.models.segmented.openvino_conversion import Conversion, traced
from services.separation.models.segmented.precision import Precision

WORTH_SEGMENTS = 3
"""Number of segments from which on a conversion pays: it takes about as long as one segment in torch."""
TRACED_FRAMES = 8
"""Frames of the spectrum with which the network is traced. They give the same graph as all frames."""
FORM = 1
"""Version of the converted form. Kept networks of another version are converted again."""


class OpenVinoNetwork:
    """A `Network` around a RoFormer.

    Args:
        make: loads the network in torch; called only if there is no kept conversion.
        config: its configuration.
        chunk: samples of a segment.
        precision: float32 or bfloat16.
        folder: folder for converted networks; None not to keep them.
        version: version of the weights; another version is converted again.
    """

    def __init__(
        self,
        make: Callable[[], RoFormer],
        config: RoFormerConfig,
        chunk: int,
        precision: Precision,
        folder: Path | None,
        version: str,
    ) -> None:
        self._make = make
        self._config = config
        self._precision = precision
        self._conversion = Conversion(f"roformer {version} {chunk} {FORM}", precision, folder)
        self._transforms = Transforms(config, torch.device("cpu"))
        self._compiled: Any = None
        self._eager: TorchNetwork | None = None
        self._asked = 0
        self.segment_samples = chunk

    def prepare(self, segments: int) -> None:
        """Compiles the network if it is converted already, or if there are enough segments for a conversion to pay."""
        self._asked += segments
        if self._compiled is None and (self._conversion.is_kept or self._asked >= WORTH_SEGMENTS):
            self._compiled = self._conversion.compile(self._convert)
            self._eager = None  # frees its weights

    def valid_length(self, _samples: int) -> int:
        """See `Network.valid_length`. It is always a whole segment."""
        return self.segment_samples

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network.__call__`. Computes segments one by one, because batches are not faster on a CPU."""
        if self._compiled is None:
            return self._torch()(batch)
        return of_segments(torch.cat([self._separate(wave[None]) for wave in as_waves(batch, self._config)]), batch)

    def _separate(self, wave: Tensor) -> Tensor:
        spectrum, values = self._transforms.split(wave)
        masks = torch.from_numpy(self._compiled([values.numpy()])[self._compiled.output(0)])
        return self._transforms.join(spectrum, masks, wave.shape[-1])

    def _torch(self) -> TorchNetwork:
        if self._eager is None:
            cpu = torch.device("cpu")
            self._eager = TorchNetwork(self._make(), self._config, self.segment_samples, cpu, self._precision)
        return self._eager

    def _convert(self) -> Any:
        frames = self.segment_samples // self._config.hop + 1
        width = sum(2 * self._config.channels * len(band) for band in self._config.bands)
        return traced(self._torch().model, [torch.zeros(1, TRACED_FRAMES, width)], [(1, frames, width)])
