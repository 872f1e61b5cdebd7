"""Lists of a user's tracks: filters, orders and pages."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select, tuple_

from services.common.errors import InvalidInputError
from services.common.limits import MAX_QUERY
from services.download.tables import Access, PlaylistTrack, Track
from services.download.tracks.paging import make_token, read_token
from services.download.tracks.sorting import MODES, TONIC, fold, key_number
from stemtube.download.v1 import track_pb2 as pb

Value = float | str


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a list. Equal values are sorted by track id."""

    column: Any
    descending: bool = False
    # Convert a row's value to a token's, and back.
    write: Callable[[Any], Value] = field(default=lambda value: value)
    read: Callable[[Any], Any] = field(default=lambda value: value)
    kind: type[float | str] = float

    @property
    def name(self) -> str:
        """A name that differs between orders, for tokens."""
        return f"{self.column.key} {self.descending}"


def _by_time(descending: bool) -> Order:
    return Order(
        Access.create_time, descending, write=datetime.timestamp, read=lambda time: datetime.fromtimestamp(time, UTC)
    )


NEWEST = _by_time(descending=True)
PLAYLIST = Order(PlaylistTrack.position, write=float)
ORDERS: "dict[pb.TrackOrder.ValueType, Callable[[bool], Order]]" = {
    pb.TRACK_ORDER_ADDED: _by_time,
    pb.TRACK_ORDER_TITLE: lambda descending: Order(Access.sort_title, descending, kind=str),
    pb.TRACK_ORDER_ARTIST: lambda descending: Order(Access.sort_artist, descending, kind=str),
    pb.TRACK_ORDER_TEMPO: lambda descending: Order(Access.tempo_bpm, descending),
    pb.TRACK_ORDER_DURATION: lambda descending: Order(Access.duration_seconds, descending),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """The filters and the order of a list.

    Args:
        words: folded words; the title or the artist contains each of them.
        bpm: lowest and highest tempo; 0 for no limit.
        keys: numbers of keys (see `key_number`); None for any key.
        seconds: shortest and longest duration; 0 for no limit.
        favourites: only favourites.
        playlist_id: only tracks of this playlist; empty for all.
        deleted: deleted tracks that can be restored, instead of those in the library.
        order: the order of the list.
    """

    words: tuple[str, ...] = ()
    bpm: tuple[float, float] = (0.0, 0.0)
    keys: tuple[int, ...] | None = None
    seconds: tuple[float, float] = (0.0, 0.0)
    favourites: bool = False
    playlist_id: str = ""
    deleted: bool = False
    order: Order = NEWEST

    @property
    def scope(self) -> str:
        """A hash of filters and order: a page token is valid for one scope."""
        filters = (self.words, self.bpm, self.keys, self.seconds, self.favourites, self.playlist_id, self.deleted)
        return hashlib.sha256(repr((filters, self.order.name)).encode()).hexdigest()[:12]

    def query(self, user_id: str, after: tuple[Any, str] | None, limit: int, removed_after: datetime) -> Select[Any]:
        """The query of one page. Its rows have the track, the access, and the value of the order's column.

        Args:
            user_id: the list's user.
            after: value and track id of the last row of the previous page; None for the first page.
            limit: number of rows.
            removed_after: only deleted tracks that were removed after this time can be listed.
        """
        query = select(Track, Access, self.order.column).join(Access, Access.track_id == Track.id)
        if self.playlist_id:
            query = query.join(PlaylistTrack, PlaylistTrack.track_id == Track.id)
            query = query.where(PlaylistTrack.playlist_id == self.playlist_id)
        query = query.where(Access.user_id == user_id, *self._conditions(removed_after))
        place = tuple_(self.order.column, Access.track_id)
        if after:
            query = query.where(place < tuple_(*after) if self.order.descending else place > tuple_(*after))
        columns = (self.order.column, Access.track_id)
        return query.order_by(*(c.desc() if self.order.descending else c for c in columns)).limit(limit)

    def _conditions(self, removed_after: datetime) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [
            Access.remove_time > removed_after if self.deleted else Access.remove_time.is_(None)
        ]
        found += [Access.search_text.contains(word, autoescape=True) for word in self.words]
        for column, (lowest, highest) in ((Access.tempo_bpm, self.bpm), (Access.duration_seconds, self.seconds)):
            if lowest or highest:
                # Unknown values are 0, and are in no range.
                found.append(column >= lowest if lowest else column > 0)
            if highest:
                found.append(column <= highest)
        if self.keys is not None:
            found.append(Access.key_number.in_(self.keys))
        if self.favourites:
            found.append(Access.favourite.is_(True))
        return found

    def token(self, value: Any, track_id: str) -> str:
        """The token of the page after a row."""
        return make_token(self.order.write(value), track_id, self.scope)

    def read(self, token: str) -> tuple[Any, str] | None:
        """Reads value and track id from a token of this list; None for the first page.

        Raises:
            InvalidInputError: the token is invalid, or belongs to another list (reason BAD_PAGE_TOKEN).
        """
        place = read_token(token, self.order.kind, self.scope)
        return (self.order.read(place[0]), place[1]) if place else None


def read_listing(request: pb.ListTracksRequest) -> Listing:
    """Reads filters and order from a request.

    Raises:
        InvalidInputError: they are invalid (reason BAD_REQUEST).
    """
    if len(request.query) > MAX_QUERY:
        raise _bad(f"query has at most {MAX_QUERY} characters")
    if request.order not in pb.TrackOrder.values():
        raise _bad("unknown order")
    usual = PLAYLIST if request.playlist_id else NEWEST
    return Listing(
        words=tuple(dict.fromkeys(fold(request.query.replace("\0", " ")).split())),
        bpm=_range("bpm", request.min_bpm, request.max_bpm),
        keys=_keys(request.key_tonic, request.key_mode),
        seconds=_range("seconds", request.min_seconds, request.max_seconds),
        favourites=request.favourites,
        playlist_id=request.playlist_id,
        deleted=request.deleted,
        order=ORDERS[request.order](request.descending) if request.order else usual,
    )


def _range(name: str, lowest: float, highest: float) -> tuple[float, float]:
    if not (math.isfinite(lowest) and math.isfinite(highest) and lowest >= 0 and highest >= 0):
        raise _bad(f"min_{name} and max_{name} must be 0 or more")
    if highest and lowest > highest:
        raise _bad(f"min_{name} must not be above max_{name}")
    return lowest, highest


def _keys(tonic: str, mode: str) -> tuple[int, ...] | None:
    if not (tonic or mode):
        return None
    if mode and mode not in MODES:
        raise _bad("key_mode must be major or minor")
    if tonic and not TONIC.fullmatch(tonic):
        raise _bad("key_tonic must be a note such as C, F# or Bb")
    modes = (mode,) if mode else MODES
    if tonic:
        return tuple(key_number(tonic, one) for one in modes)
    return tuple(number + 12 * MODES.index(mode) for number in range(12))


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, "BAD_REQUEST")
