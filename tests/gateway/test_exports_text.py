"""Text exports, each read by another project's reader, or by one written here from the format's description."""

import csv
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import mir_eval.io
import numpy as np
import pytest

from gateway.exports.export import Track
from services.common.errors import NotFoundError
from stemtube.analysis.v1 import music_pb2
from stemtube.download.v1 import track_pb2
from tests.gateway.exported import document, exported, full_track

LRC_TAG = re.compile(r"\[(\d+):(\d\d\.\d\d)\]")
LRC_WORD = re.compile(r"<(\d+):(\d\d\.\d\d)>([^<]*(?:<\d\D[^<]*)?)")
SRT_TIMES = re.compile(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})")


def lrc_lines(text: str) -> list[tuple[float, str]]:
    return [
        (int(match[1]) * 60 + float(match[2]), row[match.end() :])
        for row in text.splitlines()
        if (match := LRC_TAG.match(row))
    ]


def srt_blocks(text: str) -> list[tuple[float, float, str]]:
    found = []
    for number, block in enumerate(text.strip().split("\n\n"), start=1):
        index, times, *lines = block.splitlines()
        assert int(index) == number
        match = SRT_TIMES.fullmatch(times)
        assert match
        values = [int(value) for value in match.groups()]
        start, end = (h * 3600 + m * 60 + s + ms / 1000 for h, m, s, ms in (values[:4], values[4:]))
        found.append((start, end, "\n".join(lines)))
    return found


def test_lrc() -> None:
    text = exported("lrc")
    assert text.startswith("[ti:Morning / Light]\n[ar:Zoë]\n[length:00:20]\n")
    assert lrc_lines(text) == [(5.8, "Hello bright world"), (7.4, "Größe <3 [live]"), (12.0, "")]


def test_enhanced_lrc_has_the_time_of_each_word() -> None:
    _, line = lrc_lines(exported("lrc", words="1"))[0]
    words = [(int(minutes) * 60 + float(seconds), word.strip()) for minutes, seconds, word in LRC_WORD.findall(line)]
    assert words == [(5.8, "Hello"), (6.3, "bright"), (6.9, "world"), (7.5, "")]


def test_times_of_lrc_roll_over_at_the_minute() -> None:
    lines = [music_pb2.Line(start=59.998, end=6000.0, text="a\nb"), music_pb2.Line(start=6001.0, end=6002.0, text="c")]
    track = track_pb2.Track(lyrics=music_pb2.Lyrics(lines=lines))
    assert lrc_lines(exported("lrc", track, words="1")) == [(60.0, "a b"), (6001.0, "c"), (6002.0, "")]
    assert "[100:01.00]c" in exported("lrc", track)


def test_srt() -> None:
    # The first line is cut where the second one begins.
    assert srt_blocks(exported("srt")) == [(5.8, 7.4, "Hello bright world"), (7.4, 12.0, "Größe <3 [live]")]


def test_srt_escapes_lines_that_would_break_it() -> None:
    lines = [
        music_pb2.Line(start=-0.02, end=0.0, text="a --> b"),
        music_pb2.Line(start=3725.5, end=3725.5, text="c\n\nd"),
    ]
    track = track_pb2.Track(lyrics=music_pb2.Lyrics(lines=lines))
    assert srt_blocks(exported("srt", track)) == [(0.0, 0.1, "a → b"), (3725.5, 3725.6, "c d")]


def test_chordpro() -> None:
    rows = exported("chordpro").splitlines()
    assert rows[:6] == [
        "{title: Morning / Light}",
        "{artist: Zoë}",
        "{key: Am}",
        "{tempo: 120}",
        "{time: 4/4}",
        "{duration: 0:20}",
    ]
    assert [row for row in rows[6:] if row] == [
        "{comment: Intro}",
        "{start_of_grid}",
        "| Am . . . | Am . . . |",
        "{end_of_grid}",
        "{comment: Verse}",
        "[Fmaj7/A]Hello bright world",
        "[G7]Größe [C]<3 (live)",
        "{start_of_grid}",
        "| C . . . |",
        "{end_of_grid}",
        "{comment: Big outro}",
        "{start_of_grid}",
        "| Em(no5)/G . . . | Em(no5)/G . . . | Em(no5)/G . . . |",
        "{end_of_grid}",
    ]


def test_chordpro_for_beginners() -> None:
    track = full_track()
    text = exported("chordpro", track, triads="1")
    assert "[F]Hello bright world\n[G]Größe [C]<3 (live)" in text
    assert track == full_track()


def test_chordpro_of_an_instrumental_has_only_grids() -> None:
    track = full_track()
    track.ClearField("lyrics")
    text = exported("chordpro", track)
    assert text.count("{start_of_grid}") == 3
    assert "| Fmaj7/A . . . | G7 . . . | C . . . | C . . . |" in text


def test_chordpro_without_beats_has_chords_and_lines() -> None:
    track = full_track()
    del track.beats[:]
    track.chords[-1].start = track.sections[-1].start = 15.0
    text = exported("chordpro", track)
    assert "grid" not in text
    assert "\n[Am]\n" in text
    assert "[Fmaj7/A]Hello bright world\n" in text
    assert "[G7]Größe [C]<3 (live)" in text
    assert text.endswith("{comment: Big outro}\n[Em(no5)/G]\n")


def test_chordpro_places_chords_in_lines_without_times_of_words() -> None:
    track = full_track()
    for line in track.lyrics.lines:
        del line.words[:]
    assert "[G7]Größe [C]<3 (live)" in exported("chordpro", track)


def test_lab_files_as_mir_eval_reads_them(tmp_path: Path) -> None:
    track, path = full_track(), tmp_path / "x.lab"
    path.write_text(exported("chords.lab"), encoding="utf-8")
    intervals, labels = mir_eval.io.load_labeled_intervals(str(path))
    assert labels == [chord.label for chord in track.chords]
    assert np.allclose(intervals, [(chord.start, chord.end) for chord in track.chords])
    for label in labels:
        mir_eval.chord.validate_chord_label(label)
    path.write_text(exported("sections.lab"), encoding="utf-8")
    assert mir_eval.io.load_labeled_intervals(str(path))[1] == ["intro", "verse", "big_outro"]
    path.write_text(exported("beats.lab"), encoding="utf-8")
    assert np.allclose(mir_eval.io.load_events(str(path)), [beat.time for beat in track.beats])
    path.write_text(exported("beats.lab", positions="1"), encoding="utf-8")
    times, places = mir_eval.io.load_labeled_events(str(path))
    assert (len(times), places[:3]) == (38, ["3", "4", "1"])


@pytest.mark.parametrize(
    ("labels", "first"),
    [
        ("sections", (0.0, 5.7, "intro")),
        ("chords", (0.0, 1.7, "N")),
        ("beats", (0.7, 0.7, "3")),
        ("lines", (5.8, 7.5, "Hello bright world")),
        ("words", (5.8, 6.2, "Hello")),
    ],
)
def test_audacity(labels: str, first: tuple[float, float, str]) -> None:
    rows = [row.split("\t") for row in exported("audacity", labels=labels).splitlines()]
    assert {len(row) for row in rows} == {3}
    assert (float(rows[0][0]), float(rows[0][1]), rows[0][2]) == first


def test_reaper() -> None:
    track = full_track()
    track.sections[0].label = 'intro, "soft"'
    track.sections[2].end = 3700.25
    rows = list(csv.DictReader(io.StringIO(exported("reaper", track))))
    assert [row["#"] for row in rows] == ["R1", "R2", "R3", "M1", "M2", "M3", "M4", "M5", "M6"]
    assert rows[0] == {"#": "R1", "Name": 'intro, "soft"', "Start": "0:00.000", "End": "0:05.700", "Length": "0:05.700"}
    assert rows[2]["End"] == "61:40.250"
    assert (rows[5]["Name"], rows[5]["Start"], rows[5]["End"]) == ("Fmaj7/A", "0:05.700", "")


def test_json() -> None:
    content = json.loads(exported("json"))
    assert content["beats"][:3] == [
        {"time": 0.7, "position": 3},
        {"time": 1.2, "position": 4},
        {"time": 1.7, "position": 1},
    ]
    assert [part["label"] for part in content["sections"]] == ["intro", "verse", "big outro"]
    assert (content["tempoBpm"], content["beatsPerBar"], content["durationSeconds"]) == (120.0, 4, 20.0)
    only_sections = full_track()
    only_sections.ClearField("tempo")
    del only_sections.beats[:]
    assert json.loads(exported("json", only_sections))["tempoBpm"] is None


def read_jams(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from a package that jams uses
        import jams
    return jams.load(io.StringIO(text), validate=True, strict=True)


def test_jams_is_valid_and_has_every_part() -> None:
    found = read_jams(exported("jams"))
    assert (found.file_metadata.title, found.file_metadata.duration) == ("Morning / Light", 20.0)
    namespaces = ["beat", "tempo", "key_mode", "chord", "segment_open", "lyrics", "lyrics"]
    assert [annotation.namespace for annotation in found.annotations] == namespaces
    parts = dict(zip(namespaces, found.annotations, strict=True))
    assert [observation.value for observation in parts["chord"]] == [chord.label for chord in full_track().chords]
    assert [observation.value for observation in parts["key_mode"]] == ["A:minor"]
    assert parts["beat"].data[0].time == pytest.approx(0.7)
    assert parts["beat"].annotation_metadata.annotation_tools == "madmom 1"
    assert [observation.value for observation in parts["lyrics"]][-1] == "[live]"


def test_the_tuning_is_in_the_json_and_in_the_sandbox_of_jams() -> None:
    track = full_track()
    assert "tuning" not in json.loads(exported("jams", track))["sandbox"]
    assert json.loads(exported("json", track))["tuningCents"] is None
    point = music_pb2.TuningPoint(time=4.0, cents=-36.0)
    track.tuning.CopyFrom(music_pb2.Tuning(cents=-32.0, confidence=0.8, curve=[point]))
    sandbox = json.loads(read_jams(exported("jams", track)).dumps())["sandbox"]
    curve = [{"time": 4.0, "cents": -36.0}]
    assert sandbox["tuning"] == {"cents": -32.0, "confidence": 0.8, "ambiguous": False, "curve": curve}
    assert json.loads(exported("json", track))["tuningCents"] == -32.0


def test_jams_of_a_silent_track() -> None:
    """The analysis of silence: no beats, no key, one span without a chord."""
    track = track_pb2.Track(duration_seconds=3.0, chords=[music_pb2.Chord(start=0, end=3, label="N", confidence=1)])
    (annotation,) = read_jams(exported("jams", track)).annotations
    assert [observation.value for observation in annotation] == ["N"]


@pytest.mark.parametrize(
    ("name", "missing", "reason"),
    [
        ("lrc", "lyrics", "NO_LYRICS"),
        ("srt", "lyrics", "NO_LYRICS"),
        ("chordpro", "chords", "NO_CHORDS"),
        ("chords.lab", "chords", "NO_CHORDS"),
        ("beats.lab", "beats", "NO_BEATS"),
        ("sections.lab", "sections", "NO_SECTIONS"),
        ("audacity", "sections", "NO_SECTIONS"),
        ("reaper", "sections", "NO_SECTIONS"),
        ("click", "beats", "NO_BEATS"),
        ("stems", "stems", "NO_STEMS"),
        ("mixdown", "stems", "NO_STEMS"),
        ("stem.mp4", "stems", "NO_STEMS"),
    ],
)
def test_a_missing_part_is_named(name: str, missing: str, reason: str) -> None:
    track = full_track()
    track.ClearField(missing)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match=missing) as caught:
        document(name, track)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("name", "reason"), [("json", "NO_BEATS"), ("midi", "NO_BEATS"), ("jams", "NO_RESULTS")])
def test_a_track_without_results(name: str, reason: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        document(name, Track(title="x", duration_seconds=1.0))
    assert caught.value.reason == reason
