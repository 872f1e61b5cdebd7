"""Reads and writes tracks, users' access to them, and their results."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import Select, and_, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.limits import MAX_TITLE
from services.common.one_line import one_line
from services.common.storage.database import Database
from services.download.tables import MAX_SOURCE, Access, OutstandingRequests, OwnStem, Stem, Track, Upload
from services.download.tracks.results import (
    STEMS,
    TrackData,
    add_results,
    keys_of,
    no_such_track,
    update_list_columns,
)
from services.download.upkeep.object_states import faults_of
from services.download.upkeep.reservations import release_in

UPLOADS = "uploads"
# The loudness meter's value for silence.
SILENCE_LUFS = -70.0


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """The columns of `Track` that describe its audio."""

    audio_key: str
    peaks_key: str
    cover_key: str
    content_hash: str
    suffix: str
    duration_seconds: float
    sample_rate_hz: int
    channels: int
    loudness_lufs: float
    # Size of the original, its peaks and its picture.
    size_bytes: int | None = None
    # Notes on the file, each with `reason` and `message`.
    file_notes: list[dict[str, str]] | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing can be heard."""
        return self.loudness_lufs <= SILENCE_LUFS


@dataclass(frozen=True, slots=True)
class SongFacts:
    """Facts about a song from its tags or its site; unknown ones are empty."""

    title: str
    artist: str
    source: str = ""
    license: str = ""


class Grant(Enum):
    """What adding a track changed for its user."""

    NONE = "had the track already"
    RESTORED = "had deleted the track"
    NEW = "has the track for the first time"


class TrackRepository:
    """Reads and writes tracks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """The library's database."""
        return self._database

    async def add_link(self, user_id: str, url: str, *, private: bool = False, reservation_id: str = "") -> Track:
        """Gives a user access to the track of a link, and makes the track if it is new; see `grant_link`."""
        return (await self.grant_link(user_id, url, private=private, reservation_id=reservation_id))[0]

    async def grant_link(
        self, user_id: str, url: str, *, private: bool = False, reservation_id: str = ""
    ) -> tuple[Track, Grant]:
        """Like `add_link`, and tells what it changed for the user.

        Args:
            user_id: the user.
            url: the link.
            private: whether the track belongs to this user alone, instead of being shared by all users of the link.
            reservation_id: the reservation of room for the track, which is released.
        """
        async with self._database.write(lock=f"link {url}") as session:
            # Locked, so that nobody removes the track before the user has access to it.
            shared, own = Track.source_url == url, and_(Track.owner_id == user_id, Track.private_url == url)
            track = await session.scalar(select(Track).where(own if private else shared).with_for_update())
            if track is None:
                track = _new_track(private_url=url, owner_id=user_id) if private else _new_track(source_url=url)
                track.title = url[:MAX_TITLE]
                session.add(track)
                await session.flush()
            grant = await _grant(session, user_id, track)
            await release_in(session, reservation_id)
            return track, grant

    async def add_upload(
        self, user_id: str, song: SongFacts, facts: AudioFacts, *, tagged: bool = False, reservation_id: str = ""
    ) -> tuple[Track, Grant]:
        """Adds a track with this content to those of a user, unless there is one. Releases the reservation, if given.

        A track that is not new offers the names of `song`, if they are from tags and differ.

        Args:
            user_id: the user.
            song: names of a new track.
            facts: about the audio.
            tagged: whether the names are from the file's tags, and not from its name.
            reservation_id: the reservation of room for the track.

        Returns:
            The track, and what this changed for the user.
        """
        async with self._database.write(lock=f"upload {user_id}") as session:
            same = select(Track).where(Track.owner_id == user_id, Track.content_hash == facts.content_hash)
            track = await session.scalar(same.with_for_update())
            is_known = track is not None
            if track is None:
                track = _new_track(owner_id=user_id)
                _set_song(track, song)
                session.add(track)
            if not track.audio_key or await faults_of(session, [track.audio_key]):
                _set_facts(track, facts)
                await session.flush()
            grant = await _grant(session, user_id, track)
            if tagged and is_known:
                await _offer(session, user_id, track, song)
            await release_in(session, reservation_id)
            return track, grant

    async def set_audio(self, track_id: str, song: SongFacts, facts: AudioFacts, *, reservation_id: str = "") -> bool:
        """Stores the facts about the audio of a link, for the first time or to replace a faulty original.

        Releases the reservation, if given.

        Returns:
            False if the track has sound audio already, or no longer exists.
        """
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None or (track.audio_key and not await faults_of(session, [track.audio_key])):
                return False
            if not track.content_hash:
                _set_song(track, song)
            _set_facts(track, facts)
            await update_list_columns(session, track)
            await release_in(session, reservation_id)
            return True

    async def track(self, track_id: str, user_id: str | None = None, *, computed: bool = False) -> TrackData | None:
        """Returns a track with all its results; None if it does not exist, or the user does not have it.

        Args:
            track_id: the track's id.
            user_id: the user who must have the track, and whose edits and own versions are used; None to return any
                track with its shared results.
            computed: whether to ignore the user's edits of parts.
        """
        async with self._database.read() as session:
            track = await session.get(Track, track_id)
            access = await visible(session, user_id, track_id) if user_id is not None else None
            if track is None or (user_id is not None and access is None):
                return None
            data = TrackData(track, access)
            await add_results(session, user_id, {track_id: data}, whole=True, computed=computed)
            return data

    async def track_of(self, user_id: str, track_id: str, *, computed: bool = False) -> TrackData:
        """Returns a track of a user, like `track`.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
        """
        data = await self.track(track_id, user_id, computed=computed)
        if data is None:
            raise no_such_track()
        return data

    async def drop_stems(self, track_id: str, keys: list[str]) -> list[str]:
        """Deletes the stems of a track that have these keys, because their objects do not exist.

        Returns:
            Keys of all objects of the deleted stems.
        """
        dropped: list[str] = []
        async with self._database.write() as session:
            for table in STEMS:
                gone = delete(table).where(table.track_id == track_id, table.audio_key.in_(keys))
                for row in await session.execute(gone.returning(table.audio_key, table.peaks_key)):
                    dropped += row
        return dropped

    async def forget(self, user_id: str, track_id: str, removed_before: datetime) -> list[str] | None:
        """Ends the access of a user who removed a track before a time.

        Returns:
            Keys of the objects that nobody needs any more: those of the user's own stems and, if the user was the last
            one, all others. None if the user did not remove the track before that time.
        """
        async with self._database.write(lock=f"track {track_id}") as session:
            track = await session.get(Track, track_id, with_for_update=True)
            access = await session.get(Access, (user_id, track_id))
            if track is None or access is None or access.remove_time is None or access.remove_time > removed_before:
                return None
            return await _end_access(session, user_id, track)

    async def take_back(self, user_id: str, track_id: str, grant: Grant) -> list[str]:
        """Undoes what adding a track changed for its user.

        Returns:
            Keys of the objects that nobody needs any more.
        """
        async with self._database.write(lock=f"track {track_id}") as session:
            track = await session.get(Track, track_id, with_for_update=True)
            access = await session.get(Access, (user_id, track_id))
            if track is None or access is None or grant is Grant.NONE:
                return []
            if grant is Grant.RESTORED:
                access.remove_time = datetime.now(UTC)
                return []
            return await _end_access(session, user_id, track)

    async def discard_unfetched(self, user_id: str, track_id: str) -> None:
        """Ends a user's access to a track whose audio has never arrived, and removes it if nobody else has it."""
        async with self._database.write(lock=f"track {track_id}") as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None or track.content_hash:
                return
            if await _take_away(session, user_id, track_id):
                await session.execute(delete(Track).where(Track.id == track_id))

    async def unfetched(self) -> list[str]:
        """Ids of tracks whose audio has not arrived yet."""
        async with self._database.read() as session:
            return list(await session.scalars(select(Track.id).where(Track.content_hash == "")))

    async def users_of(self, track_id: str) -> list[str]:
        """Ids of the users who have a track."""
        async with self._database.read() as session:
            return list(await session.scalars(select(Access.user_id).where(Access.track_id == track_id)))

    async def hold_vocals(self, job_id: str, key: str) -> bool:
        """Keeps vocals for the lyrics of a job until its requests are forgotten, in place of those held before.

        Returns:
            False if no track has the vocals any more.
        """
        async with self._database.write(lock=f"object {key}") as session:
            if not await _is_used(session, key):
                return False
            held = update(OutstandingRequests).where(OutstandingRequests.job_id == job_id)
            await session.execute(held.values(vocals_key=key))
            return True

    @asynccontextmanager
    async def locked_object(self, key: str) -> AsyncIterator[bool]:
        """Locks an object until the end of the block, and yields whether a track or a job needs it."""
        async with self._database.write(lock=f"object {key}") as session:
            yield await _is_used(session, key)

    async def unused(self, keys: list[str]) -> list[str]:
        """The keys of those objects that no track and no job needs."""
        async with self._database.read() as session:
            return [key for key in keys if not await _is_used(session, key)]


def _new_track(*, source_url: str | None = None, private_url: str | None = None, owner_id: str | None = None) -> Track:
    return Track(
        id=uuid.uuid4().hex,
        title="",
        artist="",
        source="",
        license="",
        source_url=source_url,
        private_url=private_url,
        owner_id=owner_id,
        content_hash="",
        audio_key="",
        peaks_key="",
        cover_key="",
        suffix="",
        duration_seconds=0.0,
        sample_rate_hz=0,
        channels=0,
        loudness_lufs=0.0,
        create_time=datetime.now(UTC),
    )


def _set_song(track: Track, song: SongFacts) -> None:
    title, track.artist, track.license, source = map(_name, (song.title, song.artist, song.license, song.source))
    track.title = title or "Untitled"
    track.source = source[:MAX_SOURCE]


def _name(text: str) -> str:
    """A text for one line; tags and sites may contain any."""
    return one_line(text)[:MAX_TITLE]


async def _offer(session: AsyncSession, user_id: str, track: Track, song: SongFacts) -> None:
    access = await session.get_one(Access, (user_id, track.id))
    title, artist = _name(song.title), _name(song.artist)
    shown = (
        track.title if access.title is None else access.title,
        track.artist if access.artist is None else access.artist,
    )
    differs = bool(title) and (title, artist or shown[1]) != shown
    access.offered_title, access.offered_artist = (title, artist or shown[1]) if differs else (None, None)


def _set_facts(track: Track, facts: AudioFacts) -> None:
    for name in AudioFacts.__dataclass_fields__:
        setattr(track, name, getattr(facts, name))


async def visible(session: AsyncSession, user_id: str, track_id: str) -> Access | None:
    """A user's access to a track; None if the user does not have the track, or has removed it."""
    access = await session.get(Access, (user_id, track_id))
    return None if access is None or access.remove_time is not None else access


async def _grant(session: AsyncSession, user_id: str, track: Track) -> Grant:
    """Gives a user access to a track, or restores it if the user has removed it."""
    access = await session.get(Access, (user_id, track.id))
    if access is not None and access.remove_time is None:
        return Grant.NONE
    grant = Grant.NEW if access is None else Grant.RESTORED
    if access is None:
        access = Access(user_id=user_id, track_id=track.id)
        session.add(access)
    access.create_time, access.remove_time = datetime.now(UTC), None
    await session.flush()
    await update_list_columns(session, track, user_id)
    return grant


async def _end_access(session: AsyncSession, user_id: str, track: Track) -> list[str]:
    """Ends a user's access to a locked track, and deletes the track if nobody else has it.

    Returns:
        Keys of the objects that nobody needs any more.
    """
    own = select(OwnStem).where(OwnStem.user_id == user_id, OwnStem.track_id == track.id)
    keys = keys_of(await session.scalars(own))
    if await _take_away(session, user_id, track.id):
        keys |= keys_of(await session.scalars(select(Stem).where(Stem.track_id == track.id)))
        keys |= {key for key in (track.audio_key, track.peaks_key, track.cover_key) if key}
        await session.execute(delete(Track).where(Track.id == track.id))
    return [key for key in keys if key and not await _is_used(session, key)]


async def _take_away(session: AsyncSession, user_id: str, track_id: str) -> bool:
    """Ends a user's access to a track. Returns whether nobody has it any more."""
    await session.execute(delete(Access).where(Access.user_id == user_id, Access.track_id == track_id))
    return not await session.scalar(select(exists(select(Access).where(Access.track_id == track_id))))


async def _is_used(session: AsyncSession, key: str) -> bool:
    if key.startswith(f"{UPLOADS}/"):
        _, upload_id, *part = key.split("/")
        parts = await session.scalar(select(Upload.parts).where(Upload.id == upload_id))
        return "/".join(part) in (parts or ())
    tracks = select(Track).where(or_(Track.audio_key == key, Track.peaks_key == key, Track.cover_key == key))
    needed: list[Select[Any]] = [
        tracks,
        *(select(table).where(or_(table.audio_key == key, table.peaks_key == key)) for table in STEMS),
        select(OutstandingRequests).where(OutstandingRequests.vocals_key == key),
    ]
    return any([await session.scalar(select(exists(query))) for query in needed])
