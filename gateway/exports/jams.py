"""All results of the analysis as JAMS, for researchers.

Humphrey et al., "JAMS: A JSON Annotated Music Specification for Reproducible MIR Research", ISMIR 2014;
https://jams.readthedocs.io has the namespaces.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.exports.export import Document, Export, FileType, Options, Track
from gateway.exports.track import one_line
from services.common.errors import NotFoundError
from stemtube.common.v1.provenance_pb2 import Provenance

TYPE = FileType(".jams", "application/vnd.jams+json")
VERSION = "0.3.5"
Observation = tuple[float, float, Any, float | None]
"""Start, end, value, confidence."""


def make(track: Track, _options: Options) -> Document:
    """Writes an annotation for each part that the track has; two for lyrics, of lines and of words.

    Raises:
        NotFoundError: the track has no results (reason NO_RESULTS).
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
        "sandbox": _tuning(track),
    }
    return Document(TYPE, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def _annotations(track: Track) -> list[dict[str, Any]]:
    beats, lyrics = track.made_by["beats"], track.lyrics.made_by
    found = [
        _annotation(track, "beat", _beats(track), beats),
        _annotation(track, "tempo", _tempo(track), beats),
        _annotation(track, "key_mode", _key(track), track.key.made_by),
        _annotation(track, "chord", _segments(track.chords), track.made_by["chords"]),
        _annotation(track, "segment_open", _segments(track.sections), track.made_by["structure"]),
        _annotation(track, "lyrics", _lines(track), lyrics, unit="line"),
        _annotation(track, "lyrics", _words(track), lyrics, unit="word"),
    ]
    return [annotation for annotation in found if annotation["data"]]


def _beats(track: Track) -> Iterator[Observation]:
    return ((beat.time, beat.time, beat.position or None, None) for beat in track.beats)


def _tempo(track: Track) -> Iterator[Observation]:
    if track.tempo.bpm:
        yield 0.0, track.duration_seconds, track.tempo.bpm, track.tempo.confidence


def _key(track: Track) -> Iterator[Observation]:
    if track.key.tonic:
        yield 0.0, track.duration_seconds, f"{track.key.tonic}:{track.key.mode}", track.key.confidence


def _tuning(track: Track) -> dict[str, Any]:
    """The tuning, for which JAMS has no namespace."""
    if not track.HasField("tuning"):
        return {}
    points = [{"time": point.time, "cents": point.cents} for point in track.tuning.curve]
    return {
        "tuning": {
            "cents": track.tuning.cents,
            "confidence": track.tuning.confidence,
            "ambiguous": track.tuning.ambiguous,
            "curve": points,
        }
    }


def _segments(segments: Iterable[Any]) -> Iterator[Observation]:
    return ((segment.start, segment.end, segment.label, segment.confidence) for segment in segments)


def _lines(track: Track) -> Iterator[Observation]:
    return ((line.start, line.end, one_line(line.text), None) for line in track.lyrics.lines)


def _words(track: Track) -> Iterator[Observation]:
    for line in track.lyrics.lines:
        for word in line.words:
            yield word.start, word.end, one_line(word.text), word.confidence


def _annotation(
    track: Track, namespace: str, observations: Iterable[Observation], made_by: Provenance, **sandbox: str
) -> dict[str, Any]:
    tools = " ".join(text for text in (made_by.backend, made_by.model, made_by.version) if text)
    return {
        "namespace": namespace,
        "time": 0.0,
        "duration": track.duration_seconds,
        "data": [
            {"time": max(start, 0.0), "duration": end - start, "value": value, "confidence": confidence}
            for start, end, value, confidence in observations
        ],
        "annotation_metadata": {
            "curator": {"name": "StemTube", "email": ""},
            "annotation_tools": tools,
            "data_source": "program",
        },
        "sandbox": sandbox,
    }


EXPORT = Export(name="jams", summary="All results of the analysis as JAMS, for researchers.", make=make)
