"""Computes several segments at once, as many as fit into memory."""

import torch
from torch import Tensor

from services.common.compute.devices import is_out_of_memory
from services.common.errors import NoMemoryError
from services.separation.models.segmented.network import Network


class Batches:
    """Passes segments to a network in batches. If a batch does not fit into memory, later ones are smaller."""

    def __init__(self, network: Network, size: int = 1) -> None:
        """Wraps a network for one song. For the next song, more memory may be free.

        Args:
            network: computes the segments.
            size: segments in a batch, at first.
        """
        self.network = network
        self.size = size

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> list[Tensor]:
        """Separates segments of one length.

        Args:
            batch: float32 [segments, 2, samples], see `Network.__call__`.

        Returns:
            The sources of each segment, float32 [sources, 2, samples].

        Raises:
            NoMemoryError: a single segment does not fit into memory (reason OUT_OF_MEMORY).
        """
        outputs: list[Tensor] = []
        while len(outputs) < len(batch):
            part = batch[len(outputs) : len(outputs) + self.size]
            output = self._attempt(part)
            if output is None:
                self._shrink(len(part))
            else:
                outputs.extend(output)
        return outputs

    def _attempt(self, part: Tensor) -> Tensor | None:
        """Computes a batch; returns None if it is too large. Its memory is free only after the return."""
        try:
            return self.network(part)
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise NoMemoryError("There is not enough memory to separate one segment with this model.") from error
            return None

    def _shrink(self, failed: int) -> None:
        self.size = failed // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # torch caches memory in blocks of the larger batch's sizes
