"""The provenance of a separation as jobs store it, with the fields of `stemtube.common.v1.Provenance`."""

from services.common.weights.catalogue import Choice
from services.separation.models.base import ModelEntry


def made_by(choice: Choice[ModelEntry]) -> dict[str, str]:
    """The provenance of stems from the chosen model."""
    model = choice.entry
    return {
        "backend": model.family,
        "model": model.name,
        "version": model.version,
        "substitution": choice.substitution,
    }
