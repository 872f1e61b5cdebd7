"""Where models run."""


def resolve_device(setting: str) -> str:
    """The torch device of a setting; `auto` means a GPU if torch can use one, else the CPU. Imports torch."""
    if setting != "auto":
        return setting
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
