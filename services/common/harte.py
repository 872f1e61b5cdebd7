"""The syntax of chord labels: Harte, Sandler, Abdallah, Gómez, "Symbolic representation of musical chords", ISMIR 2005.

With the shorthands that JAMS and mir_eval know beyond it (https://jams.readthedocs.io, namespace chord).
"""

import re

SHORTHANDS = (
    *("maj", "min", "dim", "aug", "1", "5", "sus2", "sus4", "maj6", "min6", "7", "maj7", "min7", "dim7", "hdim7"),
    *("minmaj7", "aug7", "9", "maj9", "min9", "11", "maj11", "min11", "13", "maj13", "min13"),
)
MAX_LABEL = 60

_DEGREE = r"(?:b*|#*)(?:1[0-3]|[1-9])"
_DEGREES = rf"\(\*?{_DEGREE}(?:,\*?{_DEGREE})*\)"
_QUALITY = rf"(?::(?:(?:{'|'.join(SHORTHANDS)})(?:{_DEGREES})?|{_DEGREES}))?"
_LABEL = re.compile(rf"N|X|[A-G](?:b*|#*){_QUALITY}(?:/{_DEGREE})?")
_ROOT_AND_QUALITY = re.compile(r"([A-G][b#]*)(?::([a-z0-9]*)(?:\(([^)]*)\))?)?")
# What makes a triad of a shorthand; the longest beginning counts ("minmaj7" is min, "hdim7" is dim).
_TRIADS = {
    "": "maj",
    "maj": "maj",
    "min": "min",
    "dim": "dim",
    "hdim": "dim",
    "aug": "aug",
    "sus2": "sus2",
    "sus4": "sus4",
    "1": "1",
    "5": "5",
    "7": "maj",
    "9": "maj",
    "11": "maj",
    "13": "maj",
}


def is_chord_label(label: str) -> bool:
    """Whether a label is a chord in Harte syntax (`C:maj7/3`, `A:min(*5)`), no chord (N) or an unknown one (X)."""
    return len(label) <= MAX_LABEL and _LABEL.fullmatch(label) is not None


def triad(label: str) -> str:
    """A chord without what a beginner leaves out: extensions, additions and the bass (`C:maj7/3` is `C:maj`).

    Thirds, diminished and augmented fifths and suspensions stay, and so do single notes and fifths (`C:1`, `C:5`).

    Args:
        label: in Harte syntax; what is not a chord (N, X) is given back.
    """
    found = _ROOT_AND_QUALITY.match(label)
    if found is None:
        return label
    root, shorthand, degrees = found.group(1), found.group(2), (found.group(3) or "").split(",")
    if not shorthand and degrees != [""]:
        return f"{root}:{_of_degrees(degrees)}"
    beginnings = [name for name in _TRIADS if (shorthand or "").startswith(name)]
    quality = _TRIADS[max(beginnings, key=len)]
    if quality in ("maj", "min") and {"*3", "*b3"} & set(degrees):
        quality = "5"
    return f"{root}:{quality}"


def _of_degrees(degrees: list[str]) -> str:
    """The triad that single degrees above the root make."""
    if "3" in degrees:
        return "aug" if "#5" in degrees else "maj"
    if "b3" in degrees:
        return "dim" if "b5" in degrees else "min"
    return next((name for degree, name in (("4", "sus4"), ("2", "sus2"), ("5", "5")) if degree in degrees), "1")
