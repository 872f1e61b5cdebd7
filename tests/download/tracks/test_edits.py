"""Parts corrected by hand are accepted, fixed or refused."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from services.common.errors import InvalidInputError
from services.download.tracks.edits import checked_part
from stemtube.download.v1 import track_pb2 as pb

SECONDS = 10.0
NAN: Any = "NaN"  # as ProtoJSON writes it


def check(part: str, content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return checked_part(ParseDict({part: content}, pb.EditPartRequest()), SECONDS)


def chords(*spans: tuple[float, float, str]) -> dict[str, Any]:
    return {"chords": [{"start": start, "end": end, "label": label} for start, end, label in spans]}


def test_chords_that_cover_the_song_are_accepted_and_joined() -> None:
    part, content = check("chords", chords((0.02, 4.0, "C:maj7/3"), (3.97, 9.98, "N")))
    assert part == "chords"
    assert [(chord.get("start", 0.0), chord["end"]) for chord in content["chords"]] == [(0.0, 4.0), (4.0, 10.0)]
    assert content["madeBy"] == {"backend": "edit"}


def beats(*pairs: tuple[float, int], **others: Any) -> dict[str, Any]:
    return {"beats": [{"time": time, "position": position} for time, position in pairs], **others}


def test_the_tempo_is_computed_from_beats_unless_given() -> None:
    grid = ((0.5, 3), (1.0, 4), (1.5, 1), (2.0, 2), (2.5, 1))
    _, content = check("beats", beats(*grid, beatsPerBar=4))
    assert content["tempo"] == {"bpm": 120.0, "confidence": 1.0}
    _, content = check("beats", beats(*grid, tempo={"bpm": 60}))
    assert content["tempo"]["bpm"] == 60
    assert "beats" not in check("beats", {})[1]


def test_the_first_downbeat_comes_from_corrected_beats() -> None:
    computed = {"tempo": {"bpm": 120, "curve": [{"time": 0.5, "bpm": 118}]}, "firstDownbeat": 0.5}
    _, content = check("beats", beats((0.5, 3), (1.0, 4), (1.5, 1), **computed))
    assert content["firstDownbeat"] == 1.5
    assert "curve" not in content["tempo"]


def line(start: float, end: float, *words: tuple[float, float, str], text: str = "") -> dict[str, Any]:
    return {
        "start": start,
        "end": end,
        "text": text,
        "words": [{"start": first, "end": last, "text": word} for first, last, word in words],
    }


def test_a_line_gets_the_text_of_its_words() -> None:
    lines = [line(0, 2, (0, 1, "hello"), (1, 2, "you")), line(1.5, 3, text="夜の\u3000川\u00a0\u200d")]
    _, content = check("lyrics", {"language": "en", "lines": lines})
    assert [one["text"] for one in content["lines"]] == ["hello you", "夜の\u3000川\u00a0\u200d"]


def test_a_key_or_no_key_is_accepted() -> None:
    assert check("key", {"tonic": "F#", "mode": "minor", "confidence": 1})[1]["tonic"] == "F#"
    assert check("key", {})[1] == {"madeBy": {"backend": "edit"}}


def test_a_tuning_is_accepted_without_its_curve() -> None:
    curve = [{"time": 1, "cents": 3}]
    found = check("tuning", {"cents": -32, "confidence": 1, "curve": curve, "ambiguous": True})[1]
    assert found == {"cents": -32, "confidence": 1, "madeBy": {"backend": "edit"}}


def test_a_key_covers_the_song_unless_regions_are_given() -> None:
    key = {"tonic": "C", "mode": "major", "confidence": 1.0}
    assert check("key", key)[1]["regions"] == [{"end": SECONDS, **key}]
    changes = [{"end": 6.02, "tonic": "C", "mode": "major"}, {"start": 6, "end": 10, "tonic": "Db", "mode": "major"}]
    found = check("key", {**key, "regions": changes})[1]["regions"]
    assert [(region.get("start", 0.0), region["end"], region["tonic"]) for region in found] == [
        (0.0, 6.02, "C"),
        (6.02, 10.0, "Db"),
    ]


@pytest.mark.parametrize(
    ("part", "content", "reason"),
    [
        ("chords", {}, "BAD_SEGMENTS"),
        ("chords", chords((0, 10, "Cmaj")), "BAD_CHORD"),
        ("chords", chords((0, 9, "C")), "BAD_SEGMENTS"),
        ("chords", chords((0, 10.2, "C")), "BAD_SEGMENTS"),
        ("chords", chords((0.2, 10, "C")), "BAD_SEGMENTS"),
        ("chords", chords((0, 4, "C"), (5, 10, "G")), "BAD_SEGMENTS"),
        ("chords", chords((0, 6, "C"), (5, 10, "G")), "BAD_SEGMENTS"),
        ("chords", chords((0, 5, "C"), (5, 5, "F"), (5, 10, "G")), "BAD_SEGMENTS"),
        ("chords", chords((NAN, 10, "C")), "BAD_SEGMENTS"),
        ("chords", chords((0, NAN, "C")), "BAD_SEGMENTS"),
        ("chords", chords((0, 12, "C"), (12, 10, "G")), "BAD_SEGMENTS"),
        ("chords", {"chords": [{"end": 10, "label": "C", "confidence": 2}]}, "BAD_SEGMENTS"),
        ("structure", {"sections": [{"end": 10, "label": " "}]}, "BAD_SEGMENTS"),
        ("structure", {"sections": [{"end": 10, "label": "x" * 41}]}, "BAD_SEGMENTS"),
        ("structure", {"sections": [{"end": 9, "label": "verse"}]}, "BAD_SEGMENTS"),
        ("beats", beats((1, 1), (1, 2)), "BAD_BEATS"),
        ("beats", beats((2, 1), (1, 2)), "BAD_BEATS"),
        ("beats", beats((-1, 0)), "BAD_BEATS"),
        ("beats", beats((11, 0)), "BAD_BEATS"),
        ("beats", beats((NAN, 0)), "BAD_BEATS"),
        ("beats", beats((1, 1), (2, 3)), "BAD_BEATS"),
        ("beats", beats((1, 1), (2, 0)), "BAD_BEATS"),
        ("beats", beats((1, 33)), "BAD_BEATS"),
        ("beats", beats(beatsPerBar=33), "BAD_BEATS"),
        ("beats", beats(tempo={"bpm": NAN}), "BAD_BEATS"),
        ("beats", beats(tempo={"bpm": 60, "confidence": 2}), "BAD_BEATS"),
        ("key", {"tonic": "H", "mode": "major"}, "BAD_KEY"),
        ("key", {"tonic": "C"}, "BAD_KEY"),
        ("key", {"tonic": "C", "mode": "lydian"}, "BAD_KEY"),
        ("key", {"regions": [{"end": 10, "tonic": "C", "mode": "major"}]}, "BAD_KEY"),
        ("key", {"tonic": "C", "mode": "major", "regions": [{"end": 10, "tonic": "H", "mode": "major"}]}, "BAD_KEY"),
        (
            "key",
            {"tonic": "C", "mode": "major", "regions": [{"end": 9, "tonic": "C", "mode": "major"}]},
            "BAD_SEGMENTS",
        ),
        ("tuning", {"cents": 51}, "BAD_TUNING"),
        ("tuning", {"cents": NAN}, "BAD_TUNING"),
        ("tuning", {"cents": 5, "confidence": 2}, "BAD_TUNING"),
        ("lyrics", {"language": "English"}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(0, 1)]}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(0, 11, text="x")]}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(2, 1, text="x")]}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(5, 6, text="x"), line(1, 2, text="y")]}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(0, 1, (0, 3, "x"))]}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(0, 1, (0, 1, ""))]}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(0, 1, text="a\0b")]}, "BAD_LYRICS"),
        ("lyrics", {"lines": [line(NAN, 1, text="a")]}, "BAD_LYRICS"),
    ],
)
def test_a_part_that_does_not_fit_the_song_is_refused(part: str, content: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check(part, content)
    assert refused.value.reason == reason


def test_an_edit_without_a_part_is_refused() -> None:
    with pytest.raises(InvalidInputError) as refused:
        checked_part(pb.EditPartRequest(), SECONDS)
    assert refused.value.reason == "BAD_REQUEST"
