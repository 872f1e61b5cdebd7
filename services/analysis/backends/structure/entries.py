"""Backends for sections, best first (docs/accuracy.md). `auto` uses a language model if one is set."""

from services.analysis.backends.base import BackendEntry
from services.analysis.backends.packages import LIBROSA, version
from services.analysis.backends.structure import names

MSAF = ("msaf", "msaf")
NAMES = (*names.NAMES, names.SILENCE)
LABELS = (*NAMES, "A", "B", "C")

ENTRIES = (
    BackendEntry(
        name="llm",
        module="llm",
        version=version("llm", 2, LIBROSA),
        packages=(LIBROSA,),
        licence="ISC; the language model's own",
        description="The sections of barwise, named by a language model that the operator chooses",
        vocabulary=NAMES,
        cost=1.0,
        needs=("beats",),
        asks_language_model=True,
    ),
    BackendEntry(
        name="barwise",
        module="barwise",
        version=version("barwise", 3, LIBROSA),
        packages=(LIBROSA,),
        licence="ISC",
        description="Sections by how bars repeat and change, named by repetition, level, singing and words; quick",
        vocabulary=LABELS,
        cost=0.2,
        needs=("beats",),
    ),
    BackendEntry(
        name="msaf",
        module="msaf",
        version=version("msaf", 5, MSAF, LIBROSA),
        packages=(MSAF, LIBROSA),
        licence="MIT",
        description="Sections by how the harmony repeats (structure features), named like those of barwise",
        vocabulary=LABELS,
        cost=2.5,
        needs=("beats",),
    ),
)
