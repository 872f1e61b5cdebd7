"""Where models run."""

import sys


def resolve_device(setting: str) -> str:
    """The torch device of a setting; `auto` means a GPU if torch can use one, else the CPU. Imports torch."""
    if setting != "auto":
        return setting
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_memory() -> dict[str, int]:
    """Bytes of the GPU's memory, nothing where this process has not used one.

    `held` is what torch has in this process now, `most` the most that it needed since this was asked last; `used` and
    `total` are of the whole GPU, whoever uses it. Does not import torch.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    try:
        free, total = torch.cuda.mem_get_info()
        found = {
            "held": torch.cuda.memory_reserved(),
            "most": torch.cuda.max_memory_allocated(),
            "used": total - free,
            "total": total,
        }
        torch.cuda.reset_peak_memory_stats()
    except RuntimeError:  # a fault of an earlier kernel is told by whatever is called next
        return {}
    return found
