"""Playlists: ordered tracks of a user."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import and_, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.errors import AbortedError, InvalidInputError, LimitExceededError, NotFoundError
from services.common.limits import MAX_PLAYLIST_TRACKS
from services.common.storage.database import Database
from services.download.tables import Access, Playlist, PlaylistTrack
from services.download.tracks.results import no_such_track

MAX_PLAYLISTS = 500

_SHOWN = and_(
    Access.user_id == PlaylistTrack.user_id, Access.track_id == PlaylistTrack.track_id, Access.remove_time.is_(None)
)


@dataclass(frozen=True, slots=True)
class PlaylistData:
    """A playlist with the number of its tracks, and their ids in order; pages have no ids."""

    playlist: Playlist
    track_count: int
    track_ids: list[str] = field(default_factory=list)


class Playlists:
    """Reads and changes playlists. Removed tracks are hidden, and keep their position until the order is changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: str, name: str, notes: str, track_ids: Sequence[str]) -> PlaylistData:
        """Makes a playlist.

        Raises:
            InvalidInputError: a track occurs twice (reason BAD_REQUEST).
            NotFoundError: the user does not have one of the tracks (reason NO_SUCH_TRACK).
            LimitExceededError: too many playlists or tracks (reason TOO_MANY_PLAYLISTS, TOO_MANY_TRACKS).
        """
        async with self._database.write(lock=f"playlists {user_id}") as session:
            count = await session.scalar(select(func.count()).select_from(Playlist).where(Playlist.user_id == user_id))
            if (count or 0) >= MAX_PLAYLISTS:
                raise LimitExceededError(f"You have {MAX_PLAYLISTS} playlists already.", "TOO_MANY_PLAYLISTS")
            now = datetime.now(UTC)
            playlist = Playlist(
                id=uuid.uuid4().hex,
                user_id=user_id,
                name=name,
                notes=notes,
                create_time=now,
                change_time=now,
                revision=1,
            )
            session.add(playlist)
            await session.flush()
            await _append(session, playlist, track_ids, 0)
            return PlaylistData(playlist, len(track_ids), list(track_ids))

    async def page(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> list[PlaylistData]:
        """A page of a user's playlists, newest first; only those before (time, id), if given."""
        counts = (
            select(func.count())
            .select_from(PlaylistTrack)
            .join(Access, _SHOWN)
            .where(PlaylistTrack.playlist_id == Playlist.id)
            .scalar_subquery()
        )
        query = select(Playlist, counts).where(Playlist.user_id == user_id)
        if before:
            query = query.where(tuple_(Playlist.create_time, Playlist.id) < tuple_(*before))
        query = query.order_by(Playlist.create_time.desc(), Playlist.id.desc()).limit(limit)
        async with self._database.read() as session:
            return [PlaylistData(playlist, count) for playlist, count in await session.execute(query)]

    async def get(self, user_id: str, playlist_id: str) -> PlaylistData:
        """Returns a playlist with the ids of its tracks.

        Raises:
            NotFoundError: the user has no such playlist (reason NO_SUCH_PLAYLIST).
        """
        async with self._database.read() as session:
            return await _data(session, await _owned(session, user_id, playlist_id))

    async def update(
        self,
        user_id: str,
        playlist_id: str,
        *,
        name: str | None = None,
        notes: str | None = None,
        track_ids: Sequence[str] | None = None,
        revision: int = 0,
    ) -> PlaylistData:
        """Changes the given fields of a playlist.

        Raises:
            InvalidInputError: a track occurs twice (reason BAD_REQUEST).
            NotFoundError: the user has no such playlist or track (reason NO_SUCH_PLAYLIST, NO_SUCH_TRACK).
            AbortedError: `revision` is not 0, and the playlist has another one (reason REVISION_CHANGED).
            LimitExceededError: too many tracks (reason TOO_MANY_TRACKS).
        """
        async with self._database.write(lock=f"playlist {playlist_id}") as session:
            playlist = await _owned(session, user_id, playlist_id)
            if revision and revision != playlist.revision:
                raise AbortedError("The playlist has been changed: read it again.", "REVISION_CHANGED")
            if name is not None:
                playlist.name = name
            if notes is not None:
                playlist.notes = notes
            if track_ids is not None:
                await session.execute(delete(PlaylistTrack).where(PlaylistTrack.playlist_id == playlist_id))
                await _append(session, playlist, track_ids, 0)
            _touch(playlist)
            await session.flush()
            return await _data(session, playlist)

    async def add(self, user_id: str, playlist_id: str, track_ids: Sequence[str]) -> PlaylistData:
        """Appends tracks that are not in the playlist yet; errors as for `update`."""
        async with self._database.write(lock=f"playlist {playlist_id}") as session:
            playlist = await _owned(session, user_id, playlist_id)
            entries = select(PlaylistTrack).where(PlaylistTrack.playlist_id == playlist_id)
            there = {entry.track_id: entry.position for entry in await session.scalars(entries)}
            fresh = [track_id for track_id in track_ids if track_id not in there]
            if len(there) + len(fresh) > MAX_PLAYLIST_TRACKS:
                raise _too_many_tracks()
            await _append(session, playlist, fresh, max(there.values(), default=-1) + 1)
            _touch(playlist)
            await session.flush()
            return await _data(session, playlist)

    async def remove(self, user_id: str, playlist_id: str) -> None:
        """Removes a playlist.

        Raises:
            NotFoundError: the user has no such playlist (reason NO_SUCH_PLAYLIST).
        """
        async with self._database.write(lock=f"playlist {playlist_id}") as session:
            await _owned(session, user_id, playlist_id)
            await session.execute(delete(Playlist).where(Playlist.id == playlist_id))


def _touch(playlist: Playlist) -> None:
    playlist.change_time = datetime.now(UTC)
    playlist.revision += 1


async def _owned(session: AsyncSession, user_id: str, playlist_id: str) -> Playlist:
    playlist = await session.get(Playlist, playlist_id)
    if playlist is None or playlist.user_id != user_id:
        raise NotFoundError("There is no such playlist.", "NO_SUCH_PLAYLIST")
    return playlist


async def _data(session: AsyncSession, playlist: Playlist) -> PlaylistData:
    shown = select(PlaylistTrack.track_id).join(Access, _SHOWN).where(PlaylistTrack.playlist_id == playlist.id)
    track_ids = list(await session.scalars(shown.order_by(PlaylistTrack.position)))
    return PlaylistData(playlist, len(track_ids), track_ids)


async def _append(session: AsyncSession, playlist: Playlist, track_ids: Sequence[str], position: int) -> None:
    """Adds tracks of the playlist's user, from a position on."""
    if len(set(track_ids)) < len(track_ids):
        raise InvalidInputError("a playlist can have each track only once", "BAD_REQUEST")
    if len(track_ids) > MAX_PLAYLIST_TRACKS:
        raise _too_many_tracks()
    mine = select(Access.track_id).where(
        Access.user_id == playlist.user_id, Access.track_id.in_(track_ids), Access.remove_time.is_(None)
    )
    if len(list(await session.scalars(mine))) < len(track_ids):
        raise no_such_track()
    session.add_all(
        PlaylistTrack(playlist_id=playlist.id, track_id=track_id, user_id=playlist.user_id, position=position + place)
        for place, track_id in enumerate(track_ids)
    )
    await session.flush()


def _too_many_tracks() -> LimitExceededError:
    return LimitExceededError(f"A playlist has at most {MAX_PLAYLIST_TRACKS} tracks.", "TOO_MANY_TRACKS")
