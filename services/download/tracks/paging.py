"""Pages of lists. An opaque token has the entry after which the next page begins."""

import base64
import json
from typing import Any, TypeVar

from services.common.errors import InvalidInputError
from services.common.limits import DEFAULT_PAGE, MAX_PAGE

# Seconds from 1970 to the year 5138, which `datetime` can represent on every platform.
LATEST_TIME = 1e11


def page_size(asked: int) -> int:
    """The number of entries of a page, from the number in a request.

    Raises:
        InvalidInputError: the number is negative (reason BAD_REQUEST).
    """
    if asked < 0:
        raise InvalidInputError("page_size must not be negative", "BAD_REQUEST")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


Value = TypeVar("Value", bound=float | str)


def make_token(value: float | str, entry_id: str, scope: str = "") -> str:
    """Makes the token of the page after an entry.

    Args:
        value: the entry's value that the list is sorted by: a number (times in seconds since 1970) or a text.
        entry_id: the entry's id; equal values are sorted by it.
        scope: identifies the list for which the token is valid, such as a hash of its filters.
    """
    return base64.urlsafe_b64encode(json.dumps([value, entry_id, scope]).encode()).decode()


def read_token(token: str, kind: type[Value], scope: str = "") -> tuple[Value, str] | None:
    """Reads value and id from a token; returns None for the first page.

    Raises:
        InvalidInputError: the token is invalid, or has another scope (reason BAD_PAGE_TOKEN).
    """
    if not token:
        return None
    try:
        match json.loads(base64.urlsafe_b64decode(token)):
            case [value, str(entry_id), str(its_scope)] if its_scope == scope and _is_sound(value, kind):
                if "\0" not in entry_id:
                    return value, entry_id
    except (ValueError, RecursionError):
        pass
    raise InvalidInputError("page_token is not from an earlier call of this list", "BAD_PAGE_TOKEN")


def _is_sound(value: Any, kind: type[Any]) -> bool:
    """Whether a value can be used in a query."""
    if type(value) is not kind:
        return False
    # The comparison is false for NaN. PostgreSQL accepts no text with NUL.
    return "\0" not in value if isinstance(value, str) else 0 <= value < LATEST_TIME
