import mir_eval
import numpy as np
import pytest
from rich.console import Console

from songs.song import Truth, short_song
from songs.truth import chord_overlap, comparison, f_measure, found_share, same_key, triad


@pytest.fixture(scope="module")
def truth() -> Truth:
    return short_song().truth


def test_a_perfect_result_agrees_in_full(truth: Truth) -> None:
    track = {
        "tempo": {"bpm": truth.tempo_bpm},
        "key": {"tonic": truth.key[0], "mode": truth.key[1]},
        "beats": [{"time": time} for time, _ in truth.beats],
        "chords": [{"start": start, "end": end, "label": label} for start, end, label in truth.chords],
        "sections": [{"start": start} for start, _, _ in truth.sections],
        "lyrics": {"lines": [{"text": line} for line in truth.lyrics.splitlines()]},
    }
    console = Console(width=100)
    with console.capture() as printed:
        console.print(comparison(track, truth, {"vocals": (12.34, -3.05)}))
    assert printed.get().count("100 %") == 4
    assert "SDR 12.3 dB (the mix: -3.0 dB)" in printed.get()
    assert "off by 0.0 %" in printed.get()


def test_nothing_found_is_no_agreement(truth: Truth) -> None:
    console = Console(width=100)
    with console.capture() as printed:
        console.print(comparison({}, truth))
    assert printed.get().count(" 0 %") == 4


def test_f_measure_is_that_of_mir_eval() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        true = np.sort(random.uniform(5, 60, 40))
        found = np.sort(np.concatenate([true[::2] + random.normal(0, 0.05, 20), random.uniform(5, 60, 10)]))
        expected = mir_eval.beat.f_measure(true, found)
        assert f_measure(list(found), list(true), 0.07) == pytest.approx(expected, abs=1e-9)


def test_chord_overlap_is_that_of_mir_eval() -> None:
    true = [(0.0, 2.0, "C:maj"), (2.0, 5.0, "A:min"), (5.0, 6.0, "N")]
    found = [(0.0, 1.0, "C:maj7/3"), (1.0, 3.5, "A:min7"), (3.5, 5.5, "Db"), (5.5, 6.0, "N")]
    intervals, labels = np.array([span[:2] for span in true]), [span[2] for span in true]
    found_intervals, found_labels = np.array([span[:2] for span in found]), [span[2] for span in found]
    scores = mir_eval.chord.evaluate(intervals, labels, found_intervals, found_labels)
    assert chord_overlap(found, true) == pytest.approx(scores["majmin"])


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("C", (0, "maj")),
        ("C#:min7", (1, "min")),
        ("Db:maj/5", (1, "maj")),
        ("Cb", (11, "maj")),
        ("B:hdim7", (11, "min")),
        ("N", None),
        ("X", None),
    ],
)
def test_triad(label: str, expected: tuple[int, str] | None) -> None:
    assert triad(label) == expected


def test_keys_are_compared_by_sound() -> None:
    assert same_key(("C#", "minor"), ("Db", "minor"))
    assert not same_key(("C", "minor"), ("C", "major"))
    assert not same_key(("", ""), ("C", "major"))


def test_words_count_in_their_order_only() -> None:
    assert found_share(
        ["carry", "me", "over", "the", "sea"], ["carry", "me", "over", "the", "mountain"]
    ) == pytest.approx(0.8)
    assert found_share(["sea", "the"], ["the", "sea"]) == pytest.approx(0.5)
