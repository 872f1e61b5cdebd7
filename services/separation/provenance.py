"""What made a separation, as jobs keep it: the fields of `stemtube.common.v1.Provenance`."""

from services.separation.models.base import Entry


def made_by(entry: Entry, substitution: str = "") -> dict[str, str]:
    """A model's provenance.

    Args:
        entry: the model.
        substitution: why it stands in for the preferred one, if it does.
    """
    # The family's module cannot be named as the package that it wraps, demucs.
    backend = entry.family.removesuffix("_models")
    return {"backend": backend, "model": entry.name, "version": entry.version, "substitution": substitution}
