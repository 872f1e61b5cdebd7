"""What people type: names of users, e-mail addresses, names of things."""

import re
import unicodedata

from services.auth.tables import MAX_EMAIL
from services.common.errors import InvalidInputError
from services.common.limits import MAX_USERNAME

# Whether mail arrives there is for mail to find out; this keeps out what is certainly none, and what mail programs
# would take for several addresses or a header.
EMAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+\.[^\s@<>,;:\"()\[\]\\]+")
# Controls, formats that cannot be seen (two names would look alike), surrogates, line and paragraph separators.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def fold(username: str) -> str:
    """What two spellings of one name have in common."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def checked_username(name: str) -> str:
    """A name for a new account.

    Raises:
        InvalidInputError: empty, too long, or with characters that cannot be seen (reason BAD_USERNAME).
    """
    if name != name.strip():
        raise InvalidInputError("A user's name neither begins nor ends with a space.", "BAD_USERNAME")
    checked_line("A user's name", name, MAX_USERNAME, "BAD_USERNAME")
    if not fold(name).strip():
        raise InvalidInputError("A user's name must not be empty.", "BAD_USERNAME")
    return name


def checked_email(address: str) -> str:
    """An e-mail address, or none.

    Raises:
        InvalidInputError: it is none (reason BAD_EMAIL).
    """
    address = address.strip()
    if address and (len(address) > MAX_EMAIL or not EMAIL.fullmatch(address) or _has_invisible(address)):
        raise InvalidInputError("This is no e-mail address.", "BAD_EMAIL")
    return address


def checked_line(what: str, text: str, limit: int, reason: str) -> str:
    """A short text.

    Raises:
        InvalidInputError: empty, too long, or with characters that cannot be seen.
    """
    if not 0 < len(text) <= limit:
        raise InvalidInputError(f"{what} has 1 to {limit} characters.", reason)
    if _has_invisible(text):
        raise InvalidInputError(f"{what} has characters that cannot be seen.", reason)
    return text


def _has_invisible(text: str) -> bool:
    return any(unicodedata.category(character) in INVISIBLE for character in text)
