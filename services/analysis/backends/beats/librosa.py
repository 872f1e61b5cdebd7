"""Beats and tempo with librosa: light and quick, without bars; a substitute if madmom's licence is not acceptable."""

from services.analysis.backends.signal.librosa_beats import LibrosaBeats
from services.common.weights.store import WeightStore


def load(store: WeightStore | None, model: str, device: str) -> LibrosaBeats:
    """See `services.analysis.backends.base.Loader`."""
    return LibrosaBeats()
