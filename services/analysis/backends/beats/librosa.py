"""Beats and tempo with librosa: light and quick, without bars; the fallback where madmom's licence does not fit."""

from services.analysis.backends.signal.librosa_beats import LibrosaBeats
from services.common.weights.store import WeightStore


def load(store: WeightStore | None, model: str, device: str) -> LibrosaBeats:
    """See `services.analysis.backends.base.Loader`."""
    return LibrosaBeats()
