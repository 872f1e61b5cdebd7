"""The interface of networks: segments in, sources out. A network decides how and on which device it computes."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """A network in memory, ready for many calls from one thread at a time."""

    @property
    def segment_samples(self) -> int:
        """Length of the segments that it takes."""
        ...

    def prepare(self, segments: int) -> None:
        """Prepares for a song with this number of segments."""
        ...

    def valid_length(self, samples: int) -> int:
        """The length, at least `samples`, to which a segment of `samples` must be widened before it is passed in."""
        ...

    def __call__(self, batch: Tensor) -> Tensor:
        """Separates segments.

        Args:
            batch: float32 [segments, 2, samples] on the CPU, normalised. `samples` is a valid length.

        Returns:
            float32 [segments, sources, 2, samples] on any device. It may have more samples than the batch, equally many
            at both ends.
        """
        ...


class TorchNetwork:
    """A `Network` around an unchanged module of demucs, run by torch in float32."""

    def __init__(self, model: Any, device: str | torch.device = "cpu") -> None:
        """Puts the module into evaluation mode and moves it to the device.

        Args:
            model: an `HTDemucs`, `HDemucs` or `Demucs`.
            device: the torch device.
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
        """See `Network.__call__`. The sources stay on the device."""
        sources: Tensor = self._model(batch.to(self._device))
        return sources
