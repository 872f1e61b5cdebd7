"""Devices as torch sees them: resolves a setting, and checks that a device can compute.

In a module of its own, because processes that do not compute run without torch.
"""

from services.common.compute.devices import AUTO, CPU, one_line
from services.common.errors import DeviceNotReadyError

_PROOF_SIZE = 256


def resolve_device(setting: str) -> str:
    """The torch device of a setting; `auto` means a GPU if torch can use one, else the CPU. Imports torch."""
    name, _, number = setting.partition(":")
    if name != AUTO:
        return setting
    import torch

    if not torch.cuda.is_available():
        return CPU
    return f"cuda:{number}" if number else "cuda"


def prove(setting: str) -> str:
    """Computes something on a device to check it.

    Args:
        setting: a torch device; `auto`, or `auto:1` for the second GPU.

    Returns:
        The torch device that `setting` means.

    Raises:
        DeviceNotReadyError: it cannot compute; the message says why.
    """
    if setting == CPU:
        return CPU
    import torch

    device = resolve_device(setting)
    if device == CPU:
        return CPU
    try:
        ones = torch.ones(_PROOF_SIZE, _PROOF_SIZE, device=device)
        right = float((ones @ ones).sum()) == _PROOF_SIZE**3
    except Exception as error:
        raise DeviceNotReadyError(f"The device {device} cannot be used: {one_line(error)}") from error
    if not right:
        raise DeviceNotReadyError(f"The device {device} computes wrongly.")
    return device
