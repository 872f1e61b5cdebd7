"""Results as jobs keep them: the fields of the contract's messages (`Beats`, `Key`, `Chords` …)."""

from dataclasses import asdict
from typing import Any

from services.analysis.backends.base import Beat, Beats, Result


def content(result: Result, made_by: dict[str, str]) -> dict[str, Any]:
    """A result as JSON.

    Args:
        result: of a backend.
        made_by: the fields of `stemtube.common.v1.Provenance`.
    """
    fields = asdict(result)
    if isinstance(result, Beats):
        fields["tempo"] = {"bpm": fields.pop("bpm"), "confidence": fields.pop("confidence")}
    return {**fields, "made_by": made_by}


def beats_of(kept: dict[str, Any]) -> Beats:
    """The beats that `content` made into JSON."""
    tempo = kept["tempo"]
    beats = tuple(Beat(beat["time"], beat["position"]) for beat in kept["beats"])
    return Beats(beats, tempo["bpm"], tempo["confidence"], kept["beats_per_bar"])
