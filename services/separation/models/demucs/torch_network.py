"""Any of demucs' modules as a `Network`, in torch."""

from typing import Any

import torch
from torch import Tensor


class TorchNetwork:
    """A `Network` around one of demucs' modules, run unchanged by torch in float32."""

    def __init__(self, model: Any, device: str | torch.device = "cpu") -> None:
        """Takes over the module.

        Args:
            model: `HTDemucs`, `HDemucs` or `Demucs`; put into evaluation mode and moved to the device.
            device: where it computes.
        """
        self._device = torch.device(device)
        self._model = model.eval().to(self._device)
        self._lengths = getattr(model, "valid_length", None)  # HDemucs takes any length and has no such method
        self.segment_samples = int(model.samplerate * model.segment)

    def prepare(self, segments: int) -> None:
        """See `Network.prepare`. Does nothing."""

    def valid_length(self, samples: int) -> int:
        """See `Network.valid_length`."""
        return samples if self._lengths is None else int(self._lengths(samples))

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """See `Network.__call__`; the sources stay on the device."""
        sources: Tensor = self._model(batch.to(self._device))
        return sources
