"""Pages of lists: an opaque token says after which entry the next page begins."""

import base64
import json
from typing import Any, TypeVar

from services.common.errors import InvalidInputError
from services.common.limits import DEFAULT_PAGE, MAX_PAGE

# Seconds from 1970 to the year 5138: what `datetime` can tell on every platform.
LATEST_TIME = 1e11


def page_size(asked: int) -> int:
    """How many entries a page has.

    Raises:
        InvalidInputError: a negative number (reason BAD_REQUEST).
    """
    if asked < 0:
        raise InvalidInputError("page_size must not be negative", "BAD_REQUEST")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


Value = TypeVar("Value", bound=float | str)


def make_token(value: float | str, entry_id: str, scope: str = "") -> str:
    """The token of the page after an entry.

    Args:
        value: that the list is sorted by: a number (times in seconds since 1970), or a text.
        entry_id: of the entry; equal values are sorted by it.
        scope: what the token belongs to, such as the list's filters.
    """
    return base64.urlsafe_b64encode(json.dumps([value, entry_id, scope]).encode()).decode()


def read_token(token: str, kind: type[Value], scope: str = "") -> tuple[Value, str] | None:
    """Value and id in a token; None for the first page.

    Raises:
        InvalidInputError: no token of ours, or of another scope (reason BAD_PAGE_TOKEN).
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
    """Whether a database can be asked for a value."""
    if type(value) is not kind:
        return False
    # The comparison is false of NaN too. PostgreSQL takes no text with NUL in it.
    return "\0" not in value if isinstance(value, str) else 0 <= value < LATEST_TIME
