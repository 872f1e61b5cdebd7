"""Loads the tensors of a checkpoint without running code in it."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from services.common.errors import PreconditionError
from services.separation.models.folders.shapes import network_of


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a network by name, in float32 on the CPU; numbers that are not floats keep their type.

    Args:
        path: a `.safetensors` file, or a `.ckpt` file, which is read with `weights_only`.

    Raises:
        PreconditionError: the file cannot be read so.
    """
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, LookupError, EOFError, OSError) as error:
        raise PreconditionError(f"{path.name} cannot be read as a checkpoint", "WEIGHTS_UNUSABLE") from error
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in network_of(content).items()
    }
