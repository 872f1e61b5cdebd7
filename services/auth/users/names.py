"""Checks names and e-mail addresses that people type."""

import re
import unicodedata

from services.auth.tables import MAX_EMAIL
from services.common.errors import InvalidInputError
from services.common.limits import MAX_USERNAME

# Refuses text that cannot be an address, or that mail programs would read as several addresses or as a header.
# It does not check that mail arrives there.
EMAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+\.[^\s@<>,;:\"()\[\]\\]+")
# Unicode categories: control, format (invisible, so two names would look the same), surrogate, private use, unassigned,
# line separator, paragraph separator.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def fold(username: str) -> str:
    """The form of a name in which all its spellings are equal."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def checked_username(name: str) -> str:
    """A name for a new account.

    Raises:
        InvalidInputError: empty, too long, or with invisible characters (reason BAD_USERNAME).
    """
    if name != name.strip():
        raise InvalidInputError("A user's name must not begin or end with a space.", "BAD_USERNAME")
    checked_line("A user's name", name, MAX_USERNAME, "BAD_USERNAME")
    if not fold(name).strip():
        raise InvalidInputError("A user's name must not be empty.", "BAD_USERNAME")
    return name


def checked_email(address: str) -> str:
    """An e-mail address without spaces around it; can be empty.

    Raises:
        InvalidInputError: it is not an e-mail address (reason BAD_EMAIL).
    """
    address = address.strip()
    if address and (len(address) > MAX_EMAIL or not EMAIL.fullmatch(address) or _has_invisible(address)):
        raise InvalidInputError("This is not an e-mail address.", "BAD_EMAIL")
    return address


def checked_line(what: str, text: str, limit: int, reason: str) -> str:
    """A short text on one line.

    Args:
        what: what the text is, for the error's message.
        text: the text.
        limit: characters that it can have.
        reason: the reason of the error.

    Raises:
        InvalidInputError: empty, too long, or with invisible characters.
    """
    if not 0 < len(text) <= limit:
        raise InvalidInputError(f"{what} must have 1 to {limit} characters.", reason)
    if _has_invisible(text):
        raise InvalidInputError(f"{what} must not have invisible characters.", reason)
    return text


def _has_invisible(text: str) -> bool:
    return any(unicodedata.category(character) in INVISIBLE for character in text)
