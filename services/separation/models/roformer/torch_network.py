"""A RoFormer as a `Network`, in torch."""

import torch
from torch import Tensor

from services.separation.models.roformer.config import RoFormerConfig
from services.separation.models.roformer.network import RoFormer, Transforms
from services.separation.models.segmented.precision import Precision


class TorchNetwork:
    """A `Network` around a RoFormer, with half precision between the transforms if `precision` asks for it.

    Args:
        model: the network, which is moved to the device.
        config: its configuration.
        chunk: samples of a segment.
        device: where it computes.
        precision: of the network; its spectra are always float32.
    """

    def __init__(
        self, model: RoFormer, config: RoFormerConfig, chunk: int, device: torch.device, precision: Precision
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self._config = config
        self._transforms = Transforms(config, device)
        self._device = device
        self._type = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
        self.segment_samples = chunk
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = precision != "float32"

    def prepare(self, segments: int) -> None:
        """See `Network.prepare`. Does nothing."""

    def valid_length(self, _samples: int) -> int:
        """See `Network.valid_length`. It is always a whole segment."""
        return self.segment_samples

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network.__call__`. The sources stay on the device."""
        spectrum, values = self._transforms.split(as_waves(batch, self._config).to(self._device))
        with torch.autocast(self._device.type, self._type, enabled=self._type != torch.float32):
            masks = self.model(values)
        return of_segments(self._transforms.join(spectrum, masks.float(), batch.shape[-1]), batch)


def as_waves(batch: Tensor, config: RoFormerConfig) -> Tensor:
    """Segments [segments, 2, samples] as the network takes them: of one channel, each channel by itself."""
    return batch if config.channels == 2 else batch.flatten(0, 1).unsqueeze(1)


def of_segments(stems: Tensor, batch: Tensor) -> Tensor:
    """The stems [segments, stems, 2, samples] of `as_waves(batch)`, [waves, stems, channels, samples]."""
    return stems.view(batch.shape[0], -1, *stems.shape[1:]).transpose(1, 2).flatten(2, 3)
