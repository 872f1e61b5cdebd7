"""Conditional and partial requests for one stored object, by RFC 9110 (sections 13 and 14)."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

_RANGE = re.compile(r"bytes=\s*(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A range of an object's bytes."""

    start: int
    length: int


class UnsatisfiableError(ValueError):
    """The object has no bytes in the requested range."""


def wanted_part(headers: CIMultiDictProxy[str], size: int, etag: str, modified: datetime) -> Part | None:
    """The part that a GET requests; None for the whole object.

    As the RFC allows, a range is ignored if it is malformed, in another unit, or one of several. It is also ignored if
    `If-Range` names another version.

    Args:
        headers: of the request.
        size: of the object, bytes.
        etag: its strong entity tag, with quotes.
        modified: when it was written, with time zone.

    Raises:
        UnsatisfiableError: the range is beyond the end.
    """
    match = _RANGE.fullmatch(headers.get(hdrs.RANGE, ""))
    if match is None or not _same_version(headers.get(hdrs.IF_RANGE), etag, modified):
        return None
    if suffix := match["suffix"]:
        length = min(int(suffix), size)
        if length == 0:
            raise UnsatisfiableError
        return Part(size - length, length)
    first = int(match["first"])
    last = min(int(match["last"]), size - 1) if match["last"] else size - 1
    if match["last"] and int(match["last"]) < first:
        return None
    if first >= size:
        raise UnsatisfiableError
    return Part(first, last - first + 1)


def _same_version(if_range: str | None, etag: str, modified: datetime) -> bool:
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == etag
    try:
        return parsedate_to_datetime(if_range) == modified.replace(microsecond=0)
    except ValueError:
        return False


def is_unchanged(request: web.Request, etag: str, modified: datetime) -> bool:
    """Whether the client has this version already (304)."""
    tags = request.if_none_match
    if tags is not None:
        return any(tag.value == "*" or f'"{tag.value}"' == etag for tag in tags)
    since = request.if_modified_since
    return since is not None and modified.replace(microsecond=0) <= since


def is_other_version(request: web.Request, etag: str, modified: datetime) -> bool:
    """Whether the client wants another version than this one (412)."""
    tags = request.if_match
    if tags is not None:
        return not any(tag.value == "*" or (not tag.is_weak and f'"{tag.value}"' == etag) for tag in tags)
    since = request.if_unmodified_since
    return since is not None and modified.replace(microsecond=0) > since
