"""Converts results to and from the JSON of the contract's messages (`Beats`, `Key`, `Chords` …), which jobs store."""

from dataclasses import asdict
from typing import Any

from services.analysis.backends.base import (
    Beat,
    Beats,
    Chords,
    Line,
    Lyrics,
    Result,
    Section,
    Structure,
    TempoPoint,
    Tuning,
    Word,
)
from services.common.harte import triad


def content(result: Result, made_by: dict[str, str]) -> dict[str, Any]:
    """A result as JSON.

    Args:
        result: of a backend.
        made_by: the fields of `stemtube.common.v1.Provenance`.
    """
    fields = asdict(result)
    if isinstance(result, Beats):
        fields["tempo"] = {name: fields.pop(name) for name in ("bpm", "confidence", "curve")}
        fields["first_downbeat"] = result.first_downbeat
    if isinstance(result, Tuning):
        fields["ambiguous"] = result.ambiguous
    if isinstance(result, Chords):
        for chord in fields["chords"]:
            chord["triad"] = triad(chord["label"])
    return {**fields, "made_by": made_by}


def beats_of(kept: dict[str, Any]) -> Beats:
    """The beats in a contract's message as JSON."""
    tempo = kept["tempo"]
    beats = tuple(Beat(beat["time"], beat["position"]) for beat in kept["beats"])
    curve = tuple(TempoPoint(**point) for point in tempo.get("curve", []))
    return Beats(beats, tempo["bpm"], tempo["confidence"], kept["beats_per_bar"], curve)


def structure_of(kept: dict[str, Any]) -> Structure:
    """The sections in a contract's message as JSON."""
    return Structure(tuple(Section(**section) for section in kept["sections"]))


def lyrics_of(kept: dict[str, Any]) -> Lyrics:
    """The lyrics in a contract's message as JSON."""
    lines = (
        Line(line["start"], line["end"], line["text"], tuple(Word(**word) for word in line["words"]))
        for line in kept["lines"]
    )
    return Lyrics(kept["language"], tuple(lines), kept.get("words_from") or "heard")
