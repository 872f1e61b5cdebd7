"""Backends for the key, best first (docs/accuracy.md)."""

from services.analysis.backends.base import BackendEntry
from services.analysis.backends.packages import LIBROSA, MADMOM, MADMOM_LICENCE, version

MODES = ("major", "minor")

ENTRIES = (
    BackendEntry(
        name="blend",
        module="blend",
        version=version("blend", 2, MADMOM),
        packages=(MADMOM,),
        licence=MADMOM_LICENCE,
        description="The song's key and its changes, by madmom's network, key profiles, and how it begins and ends",
        vocabulary=MODES,
        cost=3.1,
    ),
    BackendEntry(
        name="madmom",
        module="madmom",
        version=version("madmom", 3, MADMOM),
        packages=(MADMOM,),
        licence=MADMOM_LICENCE,
        description="The song's key by a convolutional network",
        vocabulary=MODES,
        cost=3.0,
    ),
    BackendEntry(
        name="librosa",
        module="librosa",
        version=version("librosa", 3, LIBROSA),
        packages=(LIBROSA,),
        licence="ISC",
        description="The song's key from its chroma and the Krumhansl profiles; quick",
        vocabulary=MODES,
        cost=0.4,
    ),
)
