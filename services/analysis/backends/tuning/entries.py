"""The backend for the tuning."""

from services.analysis.backends.base import BackendEntry
from services.analysis.backends.packages import SOXR, version

ENTRIES = (
    BackendEntry(
        name="peaks",
        module="peaks",
        version=version("peaks", 1, SOXR),
        packages=(SOXR,),
        licence="MIT",
        description="The tuning of the notes and its drift, from the peaks of the spectrum",
        cost=0.05,
    ),
)
