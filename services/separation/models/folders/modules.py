"""Makes networks with the tensors of a checkpoint."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from services.separation.models.folders.tensors import load_tensors


def load_module(make: Callable[[], nn.Module], checkpoint: Path) -> nn.Module:
    """Makes a network and gives it the tensors of a checkpoint, whose names and shapes fit it.

    Args:
        make: makes the network; it is called where tensors take no memory.
        checkpoint: see `load_tensors`.

    Raises:
        PreconditionError: the checkpoint cannot be read.
    """
    with torch.device("meta"):
        module = make()
    module.load_state_dict(load_tensors(checkpoint), assign=True)
    return module
