"""Keys and descriptions of objects, and the errors of the store as domain errors."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import obstore
from obstore.exceptions import BaseError, PreconditionError

from services.common.errors import InvalidInputError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from obstore import ObjectMeta


MAX_KEY_LENGTH = 512
MAX_SEGMENT_LENGTH = 200
# The name of an unfinished file in a directory.
_PARTIAL = re.compile(r".+#\d+")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The facts about an object that are known without reading it.

    Args:
        key: relative key.
        size: bytes.
        etag: HTTP entity tag with its quotes; changes when the object is replaced. Empty if the store gives none.
        last_modified: with time zone.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime


def check_key(key: str) -> None:
    """Checks a key: segments of `[A-Za-z0-9._-]`, at most 200 characters each and 512 in all, joined by `/`.

    Raises:
        InvalidInputError: reason BAD_KEY.
    """
    segments = key.split("/")
    if len(key) > MAX_KEY_LENGTH or not all(
        len(segment) <= MAX_SEGMENT_LENGTH and _SEGMENT.fullmatch(segment) and segment.strip(".")
        for segment in segments
    ):
        raise InvalidInputError("not a valid object key", "BAD_KEY")


def info_of(meta: "ObjectMeta") -> ObjectInfo:
    """Converts obstore's description of an object."""
    return ObjectInfo(meta["path"], meta["size"], meta["e_tag"] or "", meta["last_modified"])


def range_options(info: ObjectInfo, start: int, end: int) -> "obstore.GetOptions":
    """The options of a request for the bytes `start` to `end` of the object as `info` describes it."""
    options: dict[str, object] = {"range": (start, end)}
    if info.etag:
        options["if_match"] = info.etag
    return cast("obstore.GetOptions", options)


def partials_below(root: Path, prefix: str) -> list[ObjectInfo]:
    """Files of unfinished writes below a prefix of a directory."""
    found = []
    for path in (root / prefix).rglob("*#*"):
        with contextlib.suppress(FileNotFoundError):
            if _PARTIAL.fullmatch(path.name) and path.is_file():
                state = path.stat()
                modified = datetime.fromtimestamp(state.st_mtime, UTC)
                found.append(ObjectInfo(str(path.relative_to(root)), state.st_size, "", modified))
    return found


def unavailable() -> UnavailableError:
    """The error of a store that does not work."""
    return UnavailableError("the object storage does not work now", "STORAGE_UNAVAILABLE")


@contextlib.contextmanager
def storage_errors(key: str) -> Iterator[None]:
    """Turns obstore's errors into domain errors; the originals, whose texts name local paths, become their causes."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError("no such object in the storage", "NO_SUCH_OBJECT", key=key) from error
    except PreconditionError as error:
        raise UnavailableError("the object was replaced while it was read", "OBJECT_CHANGED", key=key) from error
    except (BaseError, OSError) as error:
        raise unavailable() from error
