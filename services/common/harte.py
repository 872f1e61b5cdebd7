"""Parses chord labels in Harte syntax; converts them to notes, to triads and to the names of lead sheets.

Harte, Sandler, Abdallah, Gómez, "Symbolic representation of musical chords", ISMIR 2005; with the further shorthands of
JAMS and mir_eval (https://jams.readthedocs.io, namespace chord).
"""

import re
from dataclasses import dataclass

MAX_LABEL = 60
WITHOUT_CHORD = ("N", "X")
"""Labels for no chord and for an unknown one."""
NO_CHORD_NAME = "N.C."

# Semitones above the root, the suffix in lead sheets, and the shorthand of the triad.
_SHORTHANDS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "maj": ((0, 4, 7), "", "maj"),
    "min": ((0, 3, 7), "m", "min"),
    "dim": ((0, 3, 6), "dim", "dim"),
    "aug": ((0, 4, 8), "aug", "aug"),
    "1": ((0,), "1", "1"),
    "5": ((0, 7), "5", "5"),
    "sus2": ((0, 2, 7), "sus2", "sus2"),
    "sus4": ((0, 5, 7), "sus4", "sus4"),
    "maj6": ((0, 4, 7, 9), "6", "maj"),
    "min6": ((0, 3, 7, 9), "m6", "min"),
    "7": ((0, 4, 7, 10), "7", "maj"),
    "maj7": ((0, 4, 7, 11), "maj7", "maj"),
    "min7": ((0, 3, 7, 10), "m7", "min"),
    "dim7": ((0, 3, 6, 9), "dim7", "dim"),
    "hdim7": ((0, 3, 6, 10), "m7b5", "dim"),
    "minmaj7": ((0, 3, 7, 11), "mmaj7", "min"),
    "aug7": ((0, 4, 8, 10), "aug7", "aug"),
    "9": ((0, 4, 7, 10, 14), "9", "maj"),
    "maj9": ((0, 4, 7, 11, 14), "maj9", "maj"),
    "min9": ((0, 3, 7, 10, 14), "m9", "min"),
    "11": ((0, 4, 7, 10, 14, 17), "11", "maj"),
    "maj11": ((0, 4, 7, 11, 14, 17), "maj11", "maj"),
    "min11": ((0, 3, 7, 10, 14, 17), "m11", "min"),
    "13": ((0, 4, 7, 10, 14, 17, 21), "13", "maj"),
    "maj13": ((0, 4, 7, 11, 14, 17, 21), "maj13", "maj"),
    "min13": ((0, 3, 7, 10, 14, 17, 21), "m13", "min"),
}
SHORTHANDS = tuple(_SHORTHANDS)

_LETTERS = "CDEFGAB"
_SCALE = (0, 2, 4, 5, 7, 9, 11)
_DEGREE = r"(?:b*|#*)(?:1[0-3]|[1-9])"
_LABEL = re.compile(
    r"(?P<root>[A-G](?:b*|#*))"
    rf"(?::(?=[^/])(?P<shorthand>{'|'.join(SHORTHANDS)})?(?:\((?P<degrees>\*?{_DEGREE}(?:,\*?{_DEGREE})*)\))?)?"
    rf"(?:/(?P<bass>{_DEGREE}))?"
)


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord.

    Args:
        root: pitch class, C is 0.
        intervals: notes in semitones above the root, ascending.
        bass: pitch class.
        name: as in lead sheets: Am7, C/E, F#m7b5.
        triad: the label without extensions, additions and bass: `C:maj` of `C:maj7/3`.
    """

    root: int
    intervals: tuple[int, ...]
    bass: int
    name: str
    triad: str


def parse(label: str) -> Chord | None:
    """Parses a label; None for no chord (N), an unknown one (X), and a label that is not in Harte syntax."""
    match = _LABEL.fullmatch(label) if len(label) <= MAX_LABEL else None
    if match is None:
        return None
    root, shorthand, listed = match["root"], match["shorthand"], match["degrees"] or ""
    degrees = listed.split(",") if listed else []
    # A list of degrees without a shorthand has all notes besides the root.
    notes, suffix, triad = _SHORTHANDS[shorthand or "maj"] if shorthand or not listed else ((0,), "", "")
    sounding = {*notes, *(_semitones(degree) for degree in degrees if degree[0] != "*")}
    sounding -= {_semitones(degree[1:]) for degree in degrees if degree[0] == "*"}
    name = root + suffix + (f"({listed.replace('*', 'no')})" if listed else "")
    bass = _spelt(root, match["bass"]) if match["bass"] else root
    return Chord(
        root=pitch_class(root),
        intervals=tuple(sorted(sounding)),
        bass=pitch_class(bass),
        name=f"{name}/{bass}" if match["bass"] else name,
        triad=f"{root}:{_triad(triad, degrees)}",
    )


def is_chord_label(label: str) -> bool:
    """Whether a label is a chord in Harte syntax (`C:maj7/3`, `A:min(*5)`), no chord (N) or an unknown one (X)."""
    return label in WITHOUT_CHORD or parse(label) is not None


def triad(label: str) -> str:
    """Simplifies a chord for beginners: no extensions, additions or bass (`C:maj7/3` becomes `C:maj`).

    Thirds, diminished and augmented fifths and suspensions stay, and so do single notes and fifths (`C:1`, `C:5`).

    Args:
        label: in Harte syntax; N and X are returned unchanged.
    """
    chord = parse(label)
    return chord.triad if chord else label


def name_of(label: str) -> str:
    """The name of a chord in lead sheets; N.C. for no chord."""
    chord = parse(label)
    return chord.name if chord else NO_CHORD_NAME


def pitch_class(note: str) -> int:
    """The pitch class of a note's name, in semitones above C (`Bb` is 10)."""
    return (_SCALE[_LETTERS.index(note[0])] + note.count("#") - note.count("b")) % 12


def _semitones(degree: str) -> int:
    octave, step = divmod(int(degree.lstrip("b#")) - 1, 7)
    return 12 * octave + _SCALE[step] + degree.count("#") - degree.count("b")


def _spelt(root: str, degree: str) -> str:
    """The name of the note on a degree above a root: the third of D is F#, not Gb."""
    letter = _LETTERS[(_LETTERS.index(root[0]) + int(degree.lstrip("b#")) - 1) % 7]
    alteration = (pitch_class(root) + _semitones(degree) - pitch_class(letter) + 6) % 12 - 6
    return letter + ("#" * alteration if alteration > 0 else "b" * -alteration)


def _triad(of_shorthand: str, degrees: list[str]) -> str:
    """The shorthand of the triad of a chord, given by its shorthand or, without one, by its degrees."""
    if of_shorthand:
        has_third = of_shorthand not in ("maj", "min") or not {"*3", "*b3"} & set(degrees)
        return of_shorthand if has_third else "5"
    if "3" in degrees:
        return "aug" if "#5" in degrees else "maj"
    if "b3" in degrees:
        return "dim" if "b5" in degrees else "min"
    return next((name for degree, name in (("4", "sus4"), ("2", "sus2"), ("5", "5")) if degree in degrees), "1")
