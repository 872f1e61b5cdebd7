"""All that is known of the music as JAMS, for researchers.

Humphrey et al., "JAMS: A JSON Annotated Music Specification for Reproducible MIR Research", ISMIR 2014;
https://jams.readthedocs.io has the namespaces.
"""

import json
from collections.abc import Iterable
from typing import Any

from gateway.exports.export import Document, Export, FileType, Options, Track
from gateway.exports.track import one_line
from services.common.errors import NotFoundError
from stemtube.common.v1 import provenance_pb2

TYPE = FileType(".jams", "application/vnd.jams+json")
VERSION = "0.3.5"
Observation = tuple[float, float, Any, float | None]
"""Start, duration, value, confidence."""


def make(track: Track, _options: Options) -> Document:
    """An annotation for each part that is known; lyrics as two, of lines and of words.

    Raises:
        NotFoundError: nothing is known of the music (reason NO_RESULTS).
    """
    annotations = _annotations(track)
    if not annotations:
        raise NotFoundError("Nothing is known of the track's music.", "NO_RESULTS")
    content = {
        "file_metadata": {
            "title": track.title,
            "artist": track.artist,
            "release": "",
            "duration": track.duration_seconds,
            "identifiers": {"source_url": track.source_url} if track.source_url else {},
            "jams_version": VERSION,
        },
        "annotations": annotations,
        "sandbox": {},
    }
    return Document(TYPE, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def _annotations(track: Track) -> list[dict[str, Any]]:
    whole = track.duration_seconds
    lines, made_by = track.lyrics.lines, track.made_by
    key = f"{track.key.tonic}:{track.key.mode}"
    candidates: list[tuple[str, Iterable[Observation], provenance_pb2.Provenance, dict[str, str]]] = [
        ("beat", [(beat.time, 0.0, beat.position or None, None) for beat in track.beats], made_by["beats"], {}),
        (
            "tempo",
            [(0.0, whole, track.tempo.bpm, track.tempo.confidence)] if track.tempo.bpm else [],
            made_by["beats"],
            {},
        ),
        ("key_mode", [(0.0, whole, key, track.key.confidence)] if track.key.tonic else [], track.key.made_by, {}),
        ("chord", [_segment(chord) for chord in track.chords], made_by["chords"], {}),
        ("segment_open", [_segment(part) for part in track.sections], made_by["structure"], {}),
        (
            "lyrics",
            [(line.start, line.end - line.start, one_line(line.text), None) for line in lines],
            track.lyrics.made_by,
            {"unit": "line"},
        ),
        (
            "lyrics",
            [
                (word.start, word.end - word.start, one_line(word.text), word.confidence)
                for line in lines
                for word in line.words
            ],
            track.lyrics.made_by,
            {"unit": "word"},
        ),
    ]
    return [
        _annotation(track, namespace, observations, made_by, sandbox)
        for namespace, observations, made_by, sandbox in candidates
        if observations
    ]


def _segment(segment: Any) -> Observation:
    return segment.start, segment.end - segment.start, segment.label, segment.confidence


def _annotation(
    track: Track,
    namespace: str,
    observations: Iterable[Observation],
    made_by: provenance_pb2.Provenance,
    sandbox: dict[str, str],
) -> dict[str, Any]:
    tools = " ".join(text for text in (made_by.backend, made_by.model, made_by.version) if text)
    return {
        "namespace": namespace,
        "time": 0.0,
        "duration": track.duration_seconds,
        "data": [
            {"time": max(time, 0.0), "duration": max(duration, 0.0), "value": value, "confidence": confidence}
            for time, duration, value, confidence in observations
        ],
        "annotation_metadata": {
            "corpus": "",
            "version": "",
            "curator": {"name": "StemTube", "email": ""},
            "annotator": {},
            "annotation_tools": tools,
            "annotation_rules": "",
            "validation": "",
            "data_source": "program",
        },
        "sandbox": sandbox,
    }


EXPORT = Export(name="jams", summary="All that is known of the music as JAMS, for researchers.", make=make)
