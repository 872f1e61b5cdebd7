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


def is_chord_label(label: str) -> bool:
    """Whether a label is a chord in Harte syntax (`C:maj7/3`, `A:min(*5)`), no chord (N) or an unknown one (X)."""
    return len(label) <= MAX_LABEL and _LABEL.fullmatch(label) is not None
