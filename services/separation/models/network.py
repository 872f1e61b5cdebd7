"""What separates one segment, and what every such network needs around it."""

from typing import Any, Protocol

import numpy as np
import structlog
import torch

from services.common.errors import LimitExceededError
from services.separation.models.base import Samples

log = structlog.get_logger(__name__)


class Network(Protocol):
    """Splits segments of a mix."""

    segment_samples: int

    def valid_length(self, samples: int) -> int:
        """Samples that a piece must have so that a segment of `samples` can be taken from its middle."""
        ...

    def __call__(self, pieces: Samples) -> Samples:
        """Splits float32 [batch, 2, samples] into float32 [batch, stems, 2, samples]."""
        ...


class TorchNetwork:
    """Any demucs model as it is, in float32."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model.eval().to(device)
        self._device = device
        self.segment_samples = int(model.samplerate * model.segment)

    def valid_length(self, samples: int) -> int:
        """See `Network`."""
        return int(self._model.valid_length(samples)) if hasattr(self._model, "valid_length") else samples

    @torch.inference_mode()
    def __call__(self, pieces: Samples) -> Samples:
        """See `Network`."""
        stems: Samples = self._model(torch.from_numpy(pieces).to(self._device)).cpu().numpy()
        return stems


class FittingNetwork:
    """A network whose batches are halved when they do not fit into the device's memory; it remembers what did."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._most: int | None = None
        self.segment_samples = network.segment_samples
        self.valid_length = network.valid_length

    def __call__(self, pieces: Samples) -> Samples:
        """See `Network`.

        Raises:
            LimitExceededError: not even one segment fits (reason OUT_OF_MEMORY).
        """
        while True:
            most = self._most or len(pieces)
            try:
                return np.concatenate(
                    [self._network(pieces[first : first + most]) for first in range(0, len(pieces), most)]
                )
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error).lower():
                    raise
                if most == 1:
                    raise LimitExceededError(
                        "The device has too little memory for this model.", OUT_OF_MEMORY
                    ) from error
                self._most = most // 2
                log.warning("out of memory; going on with smaller batches", batch=self._most)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


OUT_OF_MEMORY = "OUT_OF_MEMORY"
