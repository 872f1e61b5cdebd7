"""Valid chord labels, their notes, names and triads; all but the names are compared with mir_eval."""

import mir_eval.chord
import numpy as np
import pytest

from services.common.harte import _SHORTHANDS, SHORTHANDS, is_chord_label, name_of, parse, triad

DEGREES = ("", "(9)", "(b7,#11)", "(*3)", "(*b3,*5)", "(14)", "(0)", "()", "(9", "9)", "(b#3)", "(,)", "( 3)")
BASSES = ("", "/3", "/b7", "/##4", "/13", "/14", "/", "/E", "/b", "/0")
ROOTS = ("C", "F#", "Bb", "Gbb", "A##", "H", "c", "", "C#b", "N", "X", "NN")
LABELS = [
    root + (f":{quality}" if quality is not None else "") + degrees + bass
    for root in ROOTS
    for quality in (None, "", "maj", "min7", "sus", "Maj")
    for degrees in DEGREES
    for bass in BASSES
]


def mir_eval_takes(label: str) -> bool:
    try:
        mir_eval.chord.validate_chord_label(label)
    except mir_eval.chord.InvalidChordException:
        return False
    return True


def test_labels_are_accepted_as_in_mir_eval() -> None:
    shorthands = [f"E:{shorthand}{tail}" for shorthand in SHORTHANDS for tail in ("", "(9)", "/5", "x")]
    labels = [*LABELS, *shorthands, "C maj", "C:maj:min", "Cmaj7", "C/G/E", "♭A", ""]
    assert [label for label in labels if is_chord_label(label) != mir_eval_takes(label)] == []
    assert 100 < sum(map(is_chord_label, labels)) < len(labels) / 2


@pytest.mark.parametrize("label", ["C\n", "N ", "C:(" + ",".join(["9"] * 100) + ")"])
def test_invalid_labels_that_mir_eval_accepts_are_refused(label: str) -> None:
    assert not is_chord_label(label)


@pytest.mark.parametrize("shorthand", sorted(set(SHORTHANDS) & set(mir_eval.chord.QUALITIES)))
def test_a_triad_is_made_of_notes_of_its_chord(shorthand: str) -> None:
    root, notes, _ = mir_eval.chord.encode(f"Eb:{shorthand}")
    triad_root, triad_notes, _ = mir_eval.chord.encode(triad(f"Eb:{shorthand}"))
    assert triad_root == root
    assert np.all(notes >= triad_notes)
    # The triad is complete: root, third or its replacement, and fifth, as far as the chord has them.
    assert triad_notes.sum() == min(notes.sum(), 3)


@pytest.mark.parametrize(
    ("label", "simple"),
    [
        ("C", "C:maj"),
        ("C/3", "C:maj"),
        ("F#:minmaj7", "F#:min"),
        ("Bb:hdim7/b3", "Bb:dim"),
        ("C:sus4(b7)", "C:sus4"),
        ("C:maj(*3)", "C:5"),
        ("C:(b3,5,b7)", "C:min"),
        ("C:(3,#5)", "C:aug"),
        ("C:(4,5)", "C:sus4"),
        ("C:(9)", "C:1"),
        ("C:aug7", "C:aug"),
        ("N", "N"),
        ("X", "X"),
    ],
)
def test_triads(label: str, simple: str) -> None:
    assert triad(label) == simple


@pytest.mark.parametrize(
    ("label", "name", "notes"),
    [
        ("C", "C", {0, 4, 7}),
        ("C:maj7/3", "Cmaj7/E", {0, 4, 7, 11}),
        ("A:min", "Am", {0, 3, 7}),
        ("D:maj/3", "D/F#", {0, 4, 7}),
        ("Bb:7/b7", "Bb7/Ab", {0, 4, 7, 10}),
        ("F#:hdim7/b5", "F#m7b5/C", {0, 3, 6, 10}),
        ("E:maj(9)", "E(9)", {0, 4, 7, 14}),
        ("E:min(*5)", "Em(no5)", {0, 3}),
        ("G:(1,5,b7)", "G(1,5,b7)", {0, 7, 10}),
        ("Cb:maj/5", "Cb/Gb", {0, 4, 7}),
    ],
)
def test_names_and_notes_of_chords(label: str, name: str, notes: set[int]) -> None:
    chord = parse(label)
    assert chord is not None
    assert (chord.name, set(chord.intervals)) == (name, notes)
    # Compared with another parser.
    root, bitmap, bass = mir_eval.chord.encode(label)
    assert (chord.root, chord.bass) == (root, (root + bass) % 12)
    if "(9)" not in label:
        assert {interval % 12 for interval in chord.intervals} | {(chord.bass - root) % 12} == set(
            np.flatnonzero(bitmap)
        )


def test_every_shorthand_has_the_notes_of_mir_eval() -> None:
    known = {quality: found for quality, found in _SHORTHANDS.items() if quality in mir_eval.chord.QUALITIES}
    assert len(known) > 12
    for quality, (intervals, *_) in known.items():
        expected = mir_eval.chord.quality_to_bitmap(quality)
        # mir_eval leaves out notes beyond the octave.
        assert {n for n in intervals if n < 12} == set(np.flatnonzero(expected)), quality


@pytest.mark.parametrize("label", ["N", "X", "", "H", "C:foo", "C:maj(x)", "c:maj"])
def test_invalid_labels(label: str) -> None:
    assert parse(label) is None
    assert name_of(label) == "N.C."
