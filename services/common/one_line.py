"""Makes one line of any text, for titles and names."""

import unicodedata

DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Marks that change the direction of writing of what follows, and the byte order mark."""
_BREAKS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, surrogates, line separators and paragraph separators."""


def is_control(character: str) -> bool:
    """Whether a character is a control, a line break or half a surrogate pair."""
    return unicodedata.category(character) in _BREAKS


def one_line(text: str) -> str:
    """A text in one line, without controls and marks of direction.

    What joins letters and emoji (U+200C, U+200D) stays, and so do marks that only say where a sign belongs.
    """
    shown = (" " if is_control(character) else character for character in text if character not in DIRECTIONS)
    return " ".join("".join(shown).split())
