"""Checks text from users, files and sites."""

from services.common.errors import InvalidInputError
from services.common.limits import MAX_NOTES
from services.common.one_line import DIRECTIONS, is_control

LINE_BREAKS = "\n\r\t\u2028\u2029"


def has_controls(text: str, allowed: str = "") -> bool:
    """Whether a text has control characters other than those `allowed`. Spaces and joined emoji are not controls."""
    return any(is_control(character) and character not in allowed for character in text)


def without_directions(text: str) -> str:
    """A title or name without marks that change the direction of writing, which could hide what it says."""
    return "".join(character for character in text if character not in DIRECTIONS).strip()


def checked_header(name: str, text: str, limit: int) -> str:
    """Checks a text for an HTTP header, which must be printable ASCII and may be empty.

    Raises:
        InvalidInputError: the text is too long, or has other characters (reason BAD_REQUEST).
    """
    if len(text) > limit:
        raise InvalidInputError(f"{name} has at most {limit} characters", "BAD_REQUEST")
    if not (text.isascii() and text.isprintable()):
        raise InvalidInputError(f"{name} must be printable ASCII: it becomes a header", "BAD_REQUEST")
    return text


def checked_text(name: str, text: str, limit: int, *, may_be_empty: bool = False, lines: bool = False) -> str:
    """Checks a text from a user, with one line or several.

    Raises:
        InvalidInputError: the text is empty, too long, or has control characters (reason BAD_REQUEST).
    """
    if not text and not may_be_empty:
        raise InvalidInputError(f"{name} must not be empty", "BAD_REQUEST")
    if len(text) > limit:
        raise InvalidInputError(f"{name} has at most {limit} characters", "BAD_REQUEST")
    if has_controls(text, LINE_BREAKS if lines else ""):
        raise InvalidInputError(f"{name} has control characters", "BAD_REQUEST")
    return text


def checked_notes(text: str) -> str:
    """Checks notes from a user; errors as for `checked_text`."""
    return checked_text("notes", text, MAX_NOTES, may_be_empty=True, lines=True)
