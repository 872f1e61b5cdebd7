"""Whisper models whose files are there but empty."""

from services.analysis.backends.lyrics import whisper_models
from services.common.weights.store import WeightStore


def put_whisper_model(store: WeightStore, model: str) -> None:
    """Leaves files in the place of a model's weights: enough to be chosen, not to be loaded."""
    for file in whisper_models.weights(model).files:
        path = store.root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
