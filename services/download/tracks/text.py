"""Text that users give."""

import unicodedata

from services.common.errors import InvalidInputError
from services.common.limits import MAX_NOTES

LINE_BREAKS = "\n\r\t\u2028\u2029"
# Controls, surrogates, separators of lines and of paragraphs.
CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})


def has_controls(text: str, allowed: str = "") -> bool:
    """Whether there are control characters, those `allowed` apart; spaces of any script and joined emoji are none."""
    return any(unicodedata.category(character) in CONTROLS and character not in allowed for character in text)


def without_controls(text: str) -> str:
    """Text that a file or a site tells, on one line: what controls it has become spaces."""
    return " ".join("".join(" " if has_controls(character) else character for character in text).split())


def checked_header(name: str, text: str, limit: int) -> str:
    """Text that becomes an HTTP header: printable ASCII, or empty.

    Raises:
        InvalidInputError: too long, or with other characters (reason BAD_REQUEST).
    """
    if len(text) > limit:
        raise InvalidInputError(f"{name} has at most {limit} characters", "BAD_REQUEST")
    if not (text.isascii() and text.isprintable()):
        raise InvalidInputError(f"{name} must be printable ASCII: it becomes a header", "BAD_REQUEST")
    return text


def checked_text(name: str, text: str, limit: int, *, may_be_empty: bool = False, lines: bool = False) -> str:
    """Text from a user, of one line or of several.

    Raises:
        InvalidInputError: empty, too long, or with control characters (reason BAD_REQUEST).
    """
    if not text and not may_be_empty:
        raise InvalidInputError(f"{name} must not be empty", "BAD_REQUEST")
    if len(text) > limit:
        raise InvalidInputError(f"{name} has at most {limit} characters", "BAD_REQUEST")
    if has_controls(text, LINE_BREAKS if lines else ""):
        raise InvalidInputError(f"{name} has control characters", "BAD_REQUEST")
    return text


def checked_notes(text: str) -> str:
    """Notes from a user; errors as for `checked_text`."""
    return checked_text("notes", text, MAX_NOTES, may_be_empty=True, lines=True)
