"""Chords in Harte syntax as people write them and as notes.

Harte, Sandler, Abdallah, Gómez, "Symbolic representation of musical chords", ISMIR 2005.
"""

import re
from dataclasses import dataclass

NO_CHORD = "N.C."
_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_LETTERS = "CDEFGAB"
_SCALE = (0, 2, 4, 5, 7, 9, 11)
_CHORD = re.compile(
    r"(?P<root>[A-G](?:b*|#*))"
    r"(?::(?P<quality>[a-z0-9]*)(?:\((?P<degrees>[^()]*)\))?)?"
    r"(?:/(?P<bass>(?:b*|#*)\d+))?"
)
_DEGREE = re.compile(r"(\*?)(b*|#*)(\d+)")
# Notes in semitones above the root, and how lead sheets write it.
_QUALITIES: dict[str, tuple[tuple[int, ...], str]] = {
    "maj": ((0, 4, 7), ""),
    "min": ((0, 3, 7), "m"),
    "dim": ((0, 3, 6), "dim"),
    "aug": ((0, 4, 8), "aug"),
    "1": ((0,), "1"),
    "5": ((0, 7), "5"),
    "sus2": ((0, 2, 7), "sus2"),
    "sus4": ((0, 5, 7), "sus4"),
    "maj6": ((0, 4, 7, 9), "6"),
    "min6": ((0, 3, 7, 9), "m6"),
    "7": ((0, 4, 7, 10), "7"),
    "maj7": ((0, 4, 7, 11), "maj7"),
    "min7": ((0, 3, 7, 10), "m7"),
    "dim7": ((0, 3, 6, 9), "dim7"),
    "hdim7": ((0, 3, 6, 10), "m7b5"),
    "minmaj7": ((0, 3, 7, 11), "mmaj7"),
    "aug7": ((0, 4, 8, 10), "aug7"),
    "9": ((0, 4, 7, 10, 14), "9"),
    "maj9": ((0, 4, 7, 11, 14), "maj9"),
    "min9": ((0, 3, 7, 10, 14), "m9"),
    "11": ((0, 4, 7, 10, 14, 17), "11"),
    "maj11": ((0, 4, 7, 11, 14, 17), "maj11"),
    "min11": ((0, 3, 7, 10, 14, 17), "m11"),
    "13": ((0, 4, 7, 10, 14, 17, 21), "13"),
    "maj13": ((0, 4, 7, 11, 14, 17, 21), "maj13"),
    "min13": ((0, 3, 7, 10, 14, 17, 21), "m13"),
}


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord.

    Args:
        root: pitch class, C is 0.
        intervals: notes in semitones above the root, ascending.
        bass: pitch class.
        name: as lead sheets write it: Am7, C/E, F#m7b5.
    """

    root: int
    intervals: tuple[int, ...]
    bass: int
    name: str


def parse(label: str) -> Chord | None:
    """A label as a chord; None for no chord (N), an unknown one (X), and what is not in Harte syntax."""
    match = _CHORD.fullmatch(label)
    if match is None:
        return None
    quality, degrees = match["quality"], match["degrees"]
    # A list of degrees alone is all that sounds besides the root.
    intervals, suffix = ((0,), "") if degrees and not quality else _QUALITIES.get(quality or "maj", ((), ""))
    if not intervals:
        return None
    notes, root = set(intervals), _pitch_class(match["root"])
    for degree in degrees.split(",") if degrees else ():
        found = _DEGREE.fullmatch(degree.strip())
        if found is None:
            return None
        semitones = _semitones(found[2], int(found[3]))
        notes = notes - {semitones} if found[1] else notes | {semitones}
    name = match["root"] + suffix + (f"({degrees.replace('*', 'no')})" if degrees else "")
    bass = root
    if match["bass"]:
        spelt = _spelt(match["root"], match["bass"])
        name, bass = f"{name}/{spelt}", _pitch_class(spelt)
    return Chord(root, tuple(sorted(notes)), bass, name)


def name_of(label: str) -> str:
    """A label as lead sheets write it; N.C. where there is no chord."""
    chord = parse(label)
    return chord.name if chord else NO_CHORD


def _pitch_class(note: str) -> int:
    return (_NATURALS[note[0]] + note.count("#") - note.count("b")) % 12


def _semitones(accidentals: str, degree: int) -> int:
    octave, step = divmod(degree - 1, 7)
    return 12 * octave + _SCALE[step] + accidentals.count("#") - accidentals.count("b")


def _spelt(root: str, degree: str) -> str:
    """The name of the note on a degree above a root: the third of D is F#, not Gb."""
    accidentals, number = degree.rstrip("0123456789"), int(degree.lstrip("b#"))
    letter = _LETTERS[(_LETTERS.index(root[0]) + number - 1) % 7]
    alteration = (_pitch_class(root) + _semitones(accidentals, number) - _NATURALS[letter] + 6) % 12 - 6
    return letter + ("#" * alteration if alteration > 0 else "b" * -alteration)
