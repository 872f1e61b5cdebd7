"""Results of the old StemTube, converted to messages of the contracts."""

from typing import Any

import pytest

from cli.legacy import results

CHORDS = {
    "C": "C:maj",
    "Am": "A:min",
    "F#m7b5": "F#:hdim7",
    "B♭maj7": "Bb:maj7",
    "C/E": "C:maj/3",
    "C7/Bb": "C:7/b7",
    "Am/G": "A:min/b7",
    "F#m/A": "F#:min/b3",
    "Eb/C": "Eb:maj/6",
    "C/C": "C:maj",
    "C6/9": "C:maj6(9)",
    "Gsus4": "G:sus4",
    "D7sus4": "D:sus4(b7)",
    "Cdim7": "C:dim7",
    "Caug": "C:aug",
    "EmM7": "E:minmaj7",
    "Cadd9": "C:maj(9)",
    "C7#9": "C:7(#9)",
    "A:min7": "A:min7",
    "C:maj7/3": "C:maj7/3",
    "N": "N",
    "N.C.": "N",
    "": "N",
    "H": "X",
    "Cfoo": "X",
    "C:foo": "X",
    "?": "X",
}


@pytest.mark.parametrize(("name", "label"), CHORDS.items())
def test_chord_names_of_musicians_become_harte_labels(name: str, label: str) -> None:
    assert results.harte(name) == label


def test_chords_cover_the_song() -> None:
    found = results.chords(
        [{"timestamp": 6, "chord": "G"}, {"timestamp": 2.0, "chord": "C"}, {"timestamp": 99, "chord": "D"}], 10.0
    )
    assert found is not None
    spans = [(chord.start, chord.end, chord.label) for chord in found.chords]
    assert spans == [(0, 2, "N"), (2, 6, "C:maj"), (6, 10, "G:maj")]
    assert results.chords([], 10.0) is None
    assert results.chords(None, 10.0) is None


def test_beats_are_those_of_a_constant_tempo() -> None:
    found = results.beats(60, 0.5, None, 3.0)
    assert found is not None
    assert ([beat.time for beat in found.beats], found.tempo.bpm) == ([0.5, 1.5, 2.5], 60)
    # The old results have no bars.
    assert {beat.position for beat in found.beats} == {0}
    assert found.beats_per_bar == 0
    without_offset = results.beats("120.5", None, 7, 3.0)
    assert without_offset is not None
    assert (without_offset.tempo.bpm, without_offset.tempo.confidence) == (120.5, 1.0)
    assert len(without_offset.beats) == 0
    assert results.beats(0, 0.5, None, 3.0) is None
    assert results.beats(None, 0.5, None, 3.0) is None


@pytest.mark.parametrize(
    ("name", "tonic", "mode"),
    [
        ("C major", "C", "major"),
        ("C# minor", "C#", "minor"),
        ("Bbm", "Bb", "minor"),
        ("A", "A", "major"),
        ("F#:min", "F#", "minor"),
        ("E♭ Major", "Eb", "major"),
        ("b minor", "B", "minor"),
        ("CM", "C", "major"),
    ],
)
def test_keys(name: str, tonic: str, mode: str) -> None:
    found = results.key(name, 0.5)
    assert found is not None
    assert (found.tonic, found.mode, found.confidence) == (tonic, mode, 0.5)


def test_sections_cover_the_song_and_equal_names_share_a_group() -> None:
    given = {
        "sections": [{"start": 0.4, "end": 4, "label": "A"}, {"start": 4, "label": "B"}, {"start": 8, "label": "A"}]
    }
    found = results.structure(given, 10.0)
    assert found is not None
    assert [(one.start, one.end, one.label, one.group) for one in found.sections] == [
        (0, 4, "a", 0),
        (4, 8, "b", 1),
        (8, 10, "a", 0),
    ]


def test_lyrics_stay_within_the_song_and_words_within_their_line() -> None:
    line = {"start": 1, "end": 30, "text": "one\ntwo", "words": [{"start": 0.5, "end": 2, "word": "one"}]}
    found = results.lyrics([line, {"start": 0, "end": 1, "text": "  "}], 10.0)
    assert found is not None
    (kept,) = found.lines
    assert (kept.start, kept.end, kept.text) == (1, 10, "one two")
    assert [(word.start, word.end, word.text) for word in kept.words] == [(1, 2, "one")]


BAD: list[tuple[Any, Any]] = [
    (results.chords, [{"chord": "C"}]),
    (results.chords, [{"timestamp": "now", "chord": "C"}]),
    (results.chords, [{"timestamp": float("nan"), "chord": "C"}]),
    (results.chords, "C"),
    (results.chords, ["C"]),
    (results.chords, {"chords": 5}),
    (results.chords, [{"timestamp": 11, "chord": "C"}]),
    (results.structure, [{"start": -1, "label": "verse"}]),
    (results.structure, [{"start": 0}]),
    (results.lyrics, [{"text": "no time"}]),
    (results.lyrics, [{"start": 0, "end": 1, "text": "x", "words": "x"}]),
]


@pytest.mark.parametrize(("make", "content"), BAD)
def test_malformed_results_are_refused_with_a_reason(make: Any, content: Any) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        make(content, 10.0)


@pytest.mark.parametrize(
    ("bpm", "offset"), [(-5, 0), (10**400, 0), (1e9, 0), ("fast", 0), (100, -1), (100, 11), (100, "first")]
)
def test_invalid_tempos(bpm: Any, offset: Any) -> None:
    with pytest.raises(ValueError, match=r"no|outside"):
        results.beats(bpm, offset, None, 10.0)
