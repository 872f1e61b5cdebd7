"""Backends for beats, tempo and bars, best first (docs/accuracy.md)."""

from services.analysis.backends.base import BackendEntry
from services.analysis.backends.packages import LIBROSA, MADMOM, MADMOM_LICENCE, version

ENTRIES = (
    BackendEntry(
        name="madmom",
        module="madmom",
        version=version("madmom", 3, MADMOM),
        packages=(MADMOM,),
        licence=MADMOM_LICENCE,
        description="Beats, bars (2 to 5 or 7 beats) and tempo by recurrent networks, a bar model and the harmony",
        cost=7.0,
    ),
    BackendEntry(
        name="librosa",
        module="librosa",
        version=version("librosa", 4, LIBROSA),
        packages=(LIBROSA,),
        licence="ISC",
        description="Beats and tempo from onsets; quick, without bars",
        cost=0.2,
    ),
)
