"""Computes several segments with a network at once, as many as fit into memory."""

import torch
from torch import Tensor

from services.common.compute.devices import is_out_of_memory
from services.common.errors import NoMemoryError
from services.separation.models.segmented.network import Network


class Batches:
    """A network that is given segments in batches; where one does not fit into memory, batches become smaller."""

    def __init__(self, network: Network, size: int = 1) -> None:
        """Wraps a network, for one song: the next one may find more memory free.

        Args:
            network: computes the segments.
            size: segments at once, to begin with.
        """
        self.network = network
        self.size = size

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> list[Tensor]:
        """Separates segments of one length.

        Args:
            batch: [segments, 2, samples], see `Network.__call__`.

        Returns:
            Each segment's [sources, 2, samples].

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
        """None for a batch that is too large: what the failed attempt held is free once its error is out of sight."""
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
            torch.cuda.empty_cache()  # what torch keeps in pieces of the larger batch's sizes
