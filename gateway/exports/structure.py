"""Tuning, beats and sections as JSON."""

import json
from typing import Any

from gateway.exports.export import Document, Export, FileType, Options, Track
from services.common.errors import NotFoundError

TYPE = FileType(".json", "application/json")


def make(track: Track, _options: Options) -> Document:
    """Writes tuning, tempo, beats and sections; missing values are null or empty.

    Raises:
        NotFoundError: the track has neither beats nor sections (reason NO_BEATS).
    """
    if not (track.beats or track.sections):
        raise NotFoundError("The track has neither beats nor sections.", "NO_BEATS")
    content: dict[str, Any] = {
        "title": track.title,
        "artist": track.artist,
        "durationSeconds": track.duration_seconds,
        "tuningCents": track.tuning.cents if track.tuning.confidence else None,
        "tempoBpm": track.tempo.bpm or None,
        "beatsPerBar": track.beats_per_bar or None,
        "beats": [{"time": beat.time, "position": beat.position or None} for beat in track.beats],
        "sections": [
            {"start": part.start, "end": part.end, "label": part.label, "group": part.group} for part in track.sections
        ],
    }
    return Document(TYPE, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


EXPORT = Export(name="json", summary="Tuning, beats and sections as JSON; times in seconds.", make=make)
