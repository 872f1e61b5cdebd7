"""The arithmetic behind docs/accuracy.md."""

from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import tables
from bench.accuracy.intervals import estimate
from bench.accuracy.references import Song, made_songs
from bench.accuracy.report import write
from bench.accuracy.scores import SCORINGS, score_beats, score_key
from services.analysis.backends.base import Beat, Beats, Key, KeyRegion, TempoPoint
from services.common import audio
from services.common.parts import PARTS
from songs.recipes import Pulse, Recipe


def test_an_interval_contains_its_mean_and_shrinks_with_more_songs() -> None:
    scores = np.random.default_rng(1).random(400)
    few, many = estimate(list(scores[:25])), estimate(list(scores))
    for found in (few, many):
        assert found.low < found.mean < found.high
    assert many.mean == pytest.approx(scores.mean())
    # The interval of a mean is 1.96 standard errors to each side.
    assert many.high - many.low == pytest.approx(2 * 1.96 * scores.std() / 20, rel=0.05)
    assert few.high - few.low == pytest.approx(4 * (many.high - many.low), rel=0.3)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    held = [found.low <= 0.5 <= found.high for found in (estimate(list(rng.random(40))) for _ in range(150))]
    assert 0.9 < np.mean(held) < 0.99


def test_equal_scores_and_single_ones() -> None:
    assert str(estimate([0.5, 0.5, 0.5])) == "0.500 [0.500, 0.500]"
    assert str(estimate([0.25])) == "0.250"
    with pytest.raises(ValueError, match="at least one value"):
        estimate([])


def song(name: str, kind: str) -> Song:
    return Song(name, Path(f"{name}.flac"), {}, kind)


def test_tables_have_kinds_as_rows_and_the_librarys_own_way_beside() -> None:
    songs = [song("one", "3/4"), song("two", "3/4"), song("three", "6/8")]
    found: tables.Found = {
        ("blend", "one"): {"key": 1.0},
        ("blend", "two"): {"key": 0.5},
        ("blend", "three"): {"key": 0.25},
        ("madmom, unmodified", "one"): {"key": 0.0},
        ("madmom, unmodified", "three"): {"key": 0.75},
    }
    ways = ["blend", "madmom, unmodified"]
    assert tables.overall(ways, songs, found) == [
        "| mean of 3 songs | key |",
        "|---|---|",
        "| blend | 0.583 [0.250, 1.000] |",
        "| madmom, unmodified | 0.375 [0.000, 0.750] |",
        "",
        "madmom, unmodified failed on 1 songs; its means leave them out.",
        "",
    ]
    assert tables.by_kind("key", ways, songs, found)[:4] == [
        "| blend | songs | key | unmodified |",
        "|---|---|---|---|",
        "| 3/4 | 2 | 0.750 [0.500, 1.000] | 0.000 |",
        "| 6/8 | 1 | 0.250 | 0.750 |",
    ]


def test_writing_a_part_keeps_the_others(tmp_path: Path) -> None:
    report = tmp_path / "accuracy.md"
    write("chords", ["## Chords", "", "old"], report)
    write("beats", ["## Beats", "", "text", "", "### Songs that were in view", "more"], report)
    write("chords", ["## Chords", "", "new"], report)
    text = report.read_text()
    assert text.startswith("# Accuracy\n")
    assert text.endswith("## Beats\n\ntext\n\n### Songs that were in view\nmore\n\n## Chords\n\nnew\n")
    assert "old" not in text


def beats(times: np.ndarray, bpm: float, curve: tuple[TempoPoint, ...] = ()) -> Beats:
    return Beats(tuple(Beat(float(time), index % 4 + 1) for index, time in enumerate(times)), bpm, 1.0, 4, curve)


def test_one_tempo_through_a_change_is_right_half_of_the_time() -> None:
    times = np.cumsum([0.4, *[0.6] * 40, *[0.4] * 60])
    curve = [
        {"time": float(time), "bpm": float(60 / step)} for time, step in zip(times[1:], np.diff(times), strict=True)
    ]
    truth = {"beats": times.tolist(), "downbeats": times[::4].tolist(), "beats_per_bar": 4, "tempo_curve": curve,
             "tempo_bpm": 150.0}  # fmt: skip
    one = score_beats(truth, beats(times, 150.0))
    assert one["beats F"] == one["downbeats F"] == one["meter"] == 1.0
    assert one["tempo over time"] == pytest.approx(0.5, abs=0.03)
    assert "Acc1" not in one  # there is no one tempo
    points = tuple(TempoPoint(point["time"], point["bpm"]) for point in curve)
    assert score_beats(truth, beats(times, 150.0, points))["tempo over time"] > 0.97


def test_a_key_is_right_for_a_share_of_the_time() -> None:
    truth = {
        "key": {"tonic": "D", "mode": "major"},
        "keys": [
            {"start": 0.0, "end": 30.0, "tonic": "D", "mode": "major"},
            {"start": 30.0, "end": 40.0, "tonic": "Eb", "mode": "major"},
        ],
    }
    assert score_key(truth, Key("D", "major", 1.0)) == {"key": 1.0, "key over time": 0.75}
    regions = (KeyRegion(0.0, 32.0, "D", "major", 1.0), KeyRegion(32.0, 41.0, "D#", "major", 1.0))
    assert score_key(truth, Key("D", "major", 1.0, regions))["key over time"] == pytest.approx(0.95)
    assert score_key(truth, Key("", "", 0.0)) == {"key": 0.0, "key over time": 0.0}


def test_each_part_is_scored() -> None:
    assert set(SCORINGS) == set(PARTS)


def test_made_songs_are_files_that_are_made_once(tmp_path: Path) -> None:
    recipe = Recipe("tests", "drums", Pulse(160))
    shown: list[str] = []
    (made,) = made_songs([recipe], tmp_path, 1, lambda done, total, what: shown.append(f"{done}/{total} {what}"))
    (again,) = made_songs([recipe], tmp_path, 1, lambda *_: shown.append("again"))
    assert shown == ["1/1 made tests 00, drums 160"]
    assert made == again
    assert made.kind == "tests"
    assert "key" not in made.truth
    assert audio.decode(made.file, audio.NO_LIMITS).shape[0] == 2
