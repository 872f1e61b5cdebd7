"""Text that users give."""

import unicodedata

from services.common.errors import InvalidInputError

MAX_NOTES = 10_000
LINE_BREAKS = "\n\r\t"


def has_controls(text: str, allowed: str = "") -> bool:
    """Whether there are control characters, those `allowed` apart; spaces of any script and joined emoji are none."""
    return any(unicodedata.category(character) == "Cc" and character not in allowed for character in text)


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
