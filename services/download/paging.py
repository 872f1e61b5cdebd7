"""Pages of lists: an opaque token says after which entry the next page begins."""

import base64
import json

from services.common.errors import InvalidInputError

DEFAULT_PAGE, LARGEST_PAGE = 50, 200
# Seconds from 1970 to the year 5138: what `datetime` can tell on every platform.
LATEST_TIME = 1e11


def page_size(asked: int) -> int:
    """How many entries a page has.

    Raises:
        InvalidInputError: a negative number (reason BAD_REQUEST).
    """
    if asked < 0:
        raise InvalidInputError("page_size must not be negative", "BAD_REQUEST")
    return min(asked or DEFAULT_PAGE, LARGEST_PAGE)


def make_token(time: float, entry_id: str) -> str:
    """The token of the page after an entry, sorted by time (seconds since 1970) and id."""
    return base64.urlsafe_b64encode(json.dumps([time, entry_id]).encode()).decode()


def read_token(token: str) -> tuple[float, str] | None:
    """Time and id in a token; None for the first page.

    Raises:
        InvalidInputError: no token of ours (reason BAD_PAGE_TOKEN).
    """
    if not token:
        return None
    try:
        match json.loads(base64.urlsafe_b64decode(token)):
            # The comparison is false of NaN too. PostgreSQL takes no text with NUL in it.
            case [float(time), str(entry_id)] if 0 <= time < LATEST_TIME and "\0" not in entry_id:
                return time, entry_id
    except (ValueError, RecursionError):
        pass
    raise InvalidInputError("page_token is not from an earlier call", "BAD_PAGE_TOKEN")
