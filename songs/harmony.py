"""Chords and keys of made songs: Roman numerals, scales, names in Harte syntax, and progressions drawn at random.

A progression is a walk over Roman numerals: each numeral has those that follow it in music of its kind. So no list of
songs is behind the made ones, and what is right for one of them is not right for the next.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NO_CHORD = "N"
NOTES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
QUALITIES = {
    (0, 4, 7): "maj",
    (0, 3, 7): "min",
    (0, 3, 6): "dim",
    (0, 4, 8): "aug",
    (0, 5, 7): "sus4",
    (0, 2, 7): "sus2",
    (0, 4, 7, 10): "7",
    (0, 4, 7, 11): "maj7",
    (0, 3, 7, 10): "min7",
    (0, 3, 6, 10): "hdim7",
    (0, 3, 6, 9): "dim7",
}
SCALES = {
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
MAJOR_SCALES = ("ionian", "mixolydian", "lydian")

_TONES = {name: tones for tones, name in QUALITIES.items()}
_BASSES = {2: "2", 3: "b3", 4: "3", 5: "4", 6: "b5", 7: "5", 8: "#5", 9: "6", 10: "b7", 11: "7"}
_DEGREES = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
_SUFFIXES = {"o": "dim", "o7": "dim7", "ø7": "hdim7", "+": "aug"}
_NUMERAL = re.compile(r"([b#]?)([iv]+|[IV]+)([^/]*)(?:/([123]))?")


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord.

    Args:
        root: pitch class.
        tones: semitones above the root, ascending, 0 first.
        inversion: the index in `tones` of the lowest note.
    """

    root: int
    tones: tuple[int, ...]
    inversion: int = 0

    @property
    def label(self) -> str:
        """The name in Harte syntax."""
        bass = self.tones[self.inversion]
        return f"{NOTES[self.root]}:{QUALITIES[self.tones]}" + (f"/{_BASSES[bass]}" if bass else "")

    @property
    def bass(self) -> int:
        """Pitch class of the lowest note."""
        return (self.root + self.tones[self.inversion]) % 12

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        """Of all tones, the root first."""
        return tuple((self.root + tone) % 12 for tone in self.tones)


def chord(numeral: str, tonic: int) -> Chord:
    """The chord of a Roman numeral over a tonic (pitch class).

    Upper case is major, lower case is minor. `b` and `#` alter the degree of the major scale. A quality in Harte syntax
    (or `o`, `o7`, `ø7`, `+`) replaces the triad; `7` after a lower-case letter is the minor seventh chord. `/1`, `/2`,
    `/3` are inversions.

    Raises:
        ValueError: not such a numeral.
    """
    match = _NUMERAL.fullmatch(numeral)
    if not match or match[2].lower() not in _DEGREES:
        raise ValueError(f"not a Roman numeral: {numeral!r}")
    accidental, degree, suffix, inversion = match.groups()
    quality = _SUFFIXES.get(suffix, suffix) or ("min" if degree.islower() else "maj")
    if quality == "7" and degree.islower():
        quality = "min7"
    root = _DEGREES[degree.lower()] + {"b": -1, "": 0, "#": 1}[accidental]
    return Chord((tonic + root) % 12, _TONES[quality], int(inversion or 0))


@dataclass(frozen=True, slots=True)
class Harmony:
    """A kind of harmony.

    Args:
        mode: one of `SCALES`.
        moves: for each numeral those that may follow; repeated ones are more likely. The first is the tonic chord.
        cadences: ends of phrases; their last chords are held.
        begins: numerals that begin a phrase; the tonic chord if empty.
    """

    mode: str
    moves: dict[str, str]
    cadences: tuple[str, ...]
    begins: tuple[str, ...] = ()

    @property
    def tonic(self) -> str:
        """The numeral of the tonic chord."""
        return next(iter(self.moves))

    @property
    def key_mode(self) -> str:
        """Major or minor."""
        return "major" if self.mode in MAJOR_SCALES else "minor"

    def phrase(self, rng: np.random.Generator, length: int, cadence: bool = False) -> tuple[str, ...]:
        """Draws `length` numerals, no two neighbours equal; with `cadence`, the last are one of `cadences`."""
        numerals = [str(rng.choice(self.begins or (self.tonic,)))]
        while len(numerals) < length:
            numerals.append(str(rng.choice(self.moves[numerals[-1]].split())))
        if cadence:
            ends = [end.split()[-length:] for end in self.cadences]
            fitting = [end for end in ends if len(end) == length or end[0] != numerals[-len(end) - 1]] or ends
            end = fitting[int(rng.integers(len(fitting)))]
            numerals[length - len(end) :] = end
        return tuple(numerals)


_MAJOR = {
    "I": "IV IV IV V V V vi vi vi ii iii",
    "ii": "V V V IV vi",
    "iii": "vi vi IV IV ii",
    "IV": "V V V I I I ii vi",
    "V": "I I I I vi vi IV IV",
    "vi": "IV IV IV ii ii V V iii I",
}
_MINOR = {
    "i": "bVI bVI bVI iv iv bVII bVII v bIII",
    "iv": "i i bVII bVII bVI v",
    "v": "i i bVI iv",
    "bVI": "bVII bVII bVII bIII bIII iv i",
    "bVII": "i i i bVI bIII iv",
    "bIII": "bVII bVII bVI bVI iv",
}
_HARMONIC_MINOR = {
    "i": "iv iv bVI iiø7 V7 bVII",
    "iv": "V7 V7 V7 i bVII iiø7",
    "iiø7": "V7",
    "V7": "i i i bVI",
    "bVI": "iv iv iiø7 V7 bIII",
    "bVII": "bIII bIII bVI V7",
    "bIII": "bVI iv V7",
}
HARMONIES = {
    "major": Harmony("ionian", _MAJOR, ("IV V", "ii V", "V I", "IV I")),
    "major off the tonic": Harmony("ionian", _MAJOR, ("V I", "IV I", "IV V"), ("IV", "vi", "ii", "V")),
    "minor": Harmony("aeolian", _MINOR, ("bVI bVII", "iv v", "bVII i", "iv i")),
    "minor, leading tone": Harmony("aeolian", _HARMONIC_MINOR, ("iv V7", "V7 i", "iiø7 V7")),
    "mixolydian": Harmony(
        "mixolydian",
        {"I": "bVII bVII bVII IV v", "bVII": "IV IV IV I I", "IV": "I I I bVII", "v": "bVII IV I"},
        ("bVII I", "IV I", "bVII IV"),
    ),
    "dorian": Harmony(
        "dorian",
        {"i": "IV IV IV bVII bIII", "IV": "i i i bVII", "bVII": "i IV", "bIII": "IV bVII"},
        ("IV i", "bVII i", "bIII IV"),
    ),
    "blues": Harmony(
        "mixolydian", {"I7": "I7 IV7 IV7 V7", "IV7": "I7 I7 V7", "V7": "IV7 I7"}, ("V7 IV7 I7 V7", "V7 IV7 I7 I7")
    ),
    "jazz": Harmony(
        "ionian",
        {
            "Imaj7": "vi7 vi7 ii7 ii7 IVmaj7 iii7 VI7",
            "ii7": "V7",
            "iii7": "vi7 VI7",
            "IVmaj7": "V7 iii7 bVII7 ii7",
            "V7": "Imaj7 Imaj7 Imaj7 iii7",
            "vi7": "ii7 ii7 IVmaj7",
            "VI7": "ii7",
            "bVII7": "Imaj7",
        },
        ("ii7 V7", "V7 Imaj7"),
    ),
    "applied dominants": Harmony(
        "ionian",
        {
            "I": "III7 VI7 I7 V7 vi IV",
            "III7": "vi",
            "VI7": "ii",
            "I7": "IV",
            "II7": "V7",
            "ii": "V7 II7",
            "IV": "V7 iv I II7",
            "iv": "I V7",
            "vi": "II7 IV",
            "V7": "I I vi",
        },
        ("V7 I", "II7 V7"),
    ),
    "inversions": Harmony(
        "ionian",
        {
            "I": "V/1 IV/2 vi V IV",
            "V/1": "I I/1 vi",
            "I/1": "IV ii IV/1",
            "I/2": "V V7",
            "IV": "I/1 I/2 V V7",
            "IV/1": "V ii/1",
            "IV/2": "I vi",
            "ii": "V/1 V",
            "ii/1": "V I/2",
            "V": "I I/1 vi",
            "V7": "I",
            "vi": "iii/2 IV ii/1",
            "iii/2": "IV vi",
        },
        ("I/2 V7 I", "ii/1 V7 I"),
    ),
    "rare qualities": Harmony(
        "ionian",
        {
            "I": "I+ Isus4 #io7 Isus2 vi V",
            "I+": "IV vi",
            "Isus4": "I",
            "Isus2": "I IV",
            "#io7": "ii",
            "ii": "V viio Vsus4",
            "IV": "iv viio I iiø7",
            "iv": "I V",
            "iiø7": "V",
            "V": "I vi V+",
            "V+": "I",
            "Vsus4": "V",
            "viio": "I",
            "vi": "iiø7 ii IV",
        },
        ("Vsus4 V I", "iv V I"),
    ),
    "chorale": Harmony(
        "ionian",
        {
            "I": "V V IV IV vi V/1 ii/1 I/1",
            "I/1": "IV IV ii/1 V",
            "ii": "V V V V/1",
            "ii/1": "V V V7",
            "IV": "V V I I ii viio/1",
            "V": "I I I I vi I/1",
            "V/1": "I I I",
            "V7": "I I I vi",
            "vi": "ii ii IV IV V iii",
            "iii": "vi vi IV",
            "viio/1": "I I I/1",
        },
        ("V I", "V7 I", "ii/1 V", "IV V", "V vi"),
    ),
    "chorale in minor": Harmony(
        "aeolian",
        {
            "i": "V V iv iv bVI V/1 i/1 bVII",
            "i/1": "iv iv iiø7/1 V",
            "iv": "V V i i iv/1",
            "iv/1": "V V",
            "iiø7/1": "V V V7",
            "V": "i i i i bVI i/1",
            "V/1": "i i i",
            "V7": "i i i bVI",
            "bVI": "iv iiø7/1 bIII",
            "bVII": "bIII bIII",
            "bIII": "bVI iv bVII",
        },
        ("V i", "V7 i", "iiø7/1 V", "iv/1 V", "V bVI"),
    ),
}


def nearest(pitch_class: int, around: float) -> int:
    """The MIDI pitch of a pitch class that is nearest to `around`."""
    return round(around + (pitch_class - around + 6) % 12 - 6)


def free_notes(chord_: Chord, scale: Sequence[int]) -> tuple[int, ...]:
    """Pitch classes of a scale that a tune may play over a chord: no semitone away from its tones."""
    own = chord_.pitch_classes
    return tuple(step for step in scale if all((step - tone) % 12 not in (1, 11) for tone in own)) or own
