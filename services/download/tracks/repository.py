"""What the library keeps: tracks, who has them, their stems, and what is known of their music."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, and_, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.limits import MAX_TITLE
from services.common.storage.database import Database
from services.download.tables import MAX_SOURCE, Access, OutstandingRequests, OwnStem, Stem, Track, Upload
from services.download.tracks.results import (
    STEMS,
    TrackData,
    add_results,
    keys_of,
    no_such_track,
    put_part,
    put_stems,
    relist,
)
from services.download.tracks.text import without_controls
from services.download.upkeep.object_states import faults_of
from services.download.upkeep.reservations import release_in

UPLOADS = "uploads"
# What the loudness meter tells of silence.
SILENCE_LUFS = -70.0


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What is known of a track's audio once it has arrived."""

    audio_key: str
    peaks_key: str
    cover_key: str
    content_hash: str
    suffix: str
    duration_seconds: float
    sample_rate_hz: int
    channels: int
    loudness_lufs: float
    # Of the original, its peaks and its picture.
    size_bytes: int | None = None

    @property
    def is_silent(self) -> bool:
        """There is nothing to be heard."""
        return self.loudness_lufs <= SILENCE_LUFS


@dataclass(frozen=True, slots=True)
class SongFacts:
    """What tags or a site tell of a song; empty where they do not."""

    title: str
    artist: str
    source: str = ""
    license: str = ""


class TrackRepository:
    """Reads and changes the library."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """Where it is kept."""
        return self._database

    async def add_link(self, user_id: str, url: str, *, private: bool = False, reservation_id: str = "") -> Track:
        """The track of a link, made if it is new; the user gets access.

        Args:
            user_id: who asks for it.
            url: the link.
            private: the track is this user's alone, not that of all who ask for the link.
            reservation_id: of the room for it, which the track takes.
        """
        async with self._database.write(lock=f"link {url}") as session:
            # Locked, so that nobody removes the track between the look at it and the access to it.
            shared, own = Track.source_url == url, and_(Track.owner_id == user_id, Track.private_url == url)
            track = await session.scalar(select(Track).where(own if private else shared).with_for_update())
            if track is None:
                track = _new_track(private_url=url, owner_id=user_id) if private else _new_track(source_url=url)
                track.title = url[:MAX_TITLE]
                session.add(track)
                await session.flush()
            await _grant(session, user_id, track)
            await release_in(session, reservation_id)
            return track

    async def add_upload(
        self, user_id: str, song: SongFacts, facts: AudioFacts, *, reservation_id: str = ""
    ) -> tuple[Track, bool]:
        """The user's track with this content, for which room may be reserved, and whether it is new."""
        async with self._database.write(lock=f"upload {user_id}") as session:
            same = select(Track).where(Track.owner_id == user_id, Track.content_hash == facts.content_hash)
            track = await session.scalar(same.with_for_update())
            new = track is None
            if track is None:
                track = _new_track(owner_id=user_id)
                _describe(track, song)
                session.add(track)
            if not track.audio_key or await faults_of(session, [track.audio_key]):
                _set_facts(track, facts)
                await session.flush()
            await _grant(session, user_id, track)
            await release_in(session, reservation_id)
            return track, new

    async def set_audio(self, track_id: str, song: SongFacts, facts: AudioFacts, *, reservation_id: str = "") -> bool:
        """Notes that a link's audio has arrived, for which room may be reserved, or again in place of a faulty object.

        Returns:
            False if it had arrived before, or the track is gone.
        """
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None or (track.audio_key and not await faults_of(session, [track.audio_key])):
                return False
            if not track.content_hash:
                _describe(track, song)
            _set_facts(track, facts)
            await relist(session, track)
            await release_in(session, reservation_id)
            return True

    async def track(self, track_id: str, user_id: str | None = None, *, computed: bool = False) -> TrackData | None:
        """A track with everything known of it; None if there is none, or none that this user has.

        Args:
            track_id: of the track.
            user_id: whose edits and versions count; nobody's, and every track is found, unless given.
            computed: the user's edits of parts do not count.
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
        """A track of a user, as `track`.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
        """
        data = await self.track(track_id, user_id, computed=computed)
        if data is None:
            raise no_such_track()
        return data

    async def set_analysis(self, track_id: str, part: str, content: dict[str, Any]) -> None:
        """Keeps a shared part, in place of an earlier one; users' edits and versions of it stay."""
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None:
                return
            await put_part(session, track_id, part, content)
            await relist(session, track)

    async def set_stems(
        self,
        track_id: str,
        model: str,
        stems: list[dict[str, Any]],
        made_by: dict[str, Any],
    ) -> list[str]:
        """Keeps shared stems of a separation, in place of the same model's earlier ones of the same names.

        Args:
            track_id: of the track.
            model: that made them.
            stems: name, keys and description of each.
            made_by: provenance.

        Returns:
            Keys of the earlier ones' objects, which other tracks may need.
        """
        async with self._database.write() as session:
            if await session.get(Track, track_id, with_for_update=True) is None:
                return []
            return await put_stems(session, track_id, model, stems, made_by)

    async def drop_stems(self, track_id: str, keys: list[str]) -> list[str]:
        """Drops stems of a track whose sound is gone.

        Returns:
            Keys of the objects of those that the track had.
        """
        dropped: list[str] = []
        async with self._database.write() as session:
            for table in STEMS:
                gone = delete(table).where(table.track_id == track_id, table.audio_key.in_(keys))
                for row in await session.execute(gone.returning(table.audio_key, table.peaks_key)):
                    dropped += row
        return dropped

    async def forget(self, user_id: str, track_id: str, removed_before: datetime) -> list[str] | None:
        """Ends the access of a user who removed a track before a time; None if they did not.

        Returns:
            Keys of the objects that nobody needs any more: of the user's own stems, and all others if the user was the
            last to have the track.
        """
        async with self._database.write(lock=f"track {track_id}") as session:
            track = await session.get(Track, track_id, with_for_update=True)
            access = await session.get(Access, (user_id, track_id))
            if track is None or access is None or access.remove_time is None or access.remove_time > removed_before:
                return None
            own = select(OwnStem).where(OwnStem.user_id == user_id, OwnStem.track_id == track_id)
            keys = keys_of(await session.scalars(own))
            if await _take_away(session, user_id, track_id):
                keys |= keys_of(await session.scalars(select(Stem).where(Stem.track_id == track_id)))
                keys |= {key for key in (track.audio_key, track.peaks_key, track.cover_key) if key}
                await session.execute(delete(Track).where(Track.id == track_id))
            return [key for key in keys if not await _is_used(session, key)]

    async def discard_unfetched(self, user_id: str, track_id: str) -> None:
        """Takes a track whose audio has never arrived from a user, and removes it if nobody else has it."""
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
        """Who has a track."""
        async with self._database.read() as session:
            return list(await session.scalars(select(Access.user_id).where(Access.track_id == track_id)))

    async def hold_vocals(self, job_id: str, key: str) -> bool:
        """Keeps vocals for the lyrics of a job until its requests are forgotten; False if no track has them any more.

        They are in place of those that were held for the job before.
        """
        async with self._database.write(lock=f"object {key}") as session:
            if not await _is_used(session, key):
                return False
            held = update(OutstandingRequests).where(OutstandingRequests.job_id == job_id)
            await session.execute(held.values(vocals_key=key))
            return True

    @asynccontextmanager
    async def deciding_on(self, key: str) -> AsyncIterator[bool]:
        """Whether a track or a job needs an object; nobody else decides on that object until the block ends."""
        async with self._database.write(lock=f"object {key}") as session:
            yield await _is_used(session, key)

    async def unused(self, keys: list[str]) -> list[str]:
        """Those of these objects that no track and no job needs."""
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


def _describe(track: Track, song: SongFacts) -> None:
    # Tags and sites tell anything.
    texts = (without_controls(text) for text in (song.title, song.artist, song.license, song.source))
    title, track.artist, track.license, source = (text[:MAX_TITLE] for text in texts)
    track.title = title or "Untitled"
    track.source = source[:MAX_SOURCE]


def _set_facts(track: Track, facts: AudioFacts) -> None:
    for name in AudioFacts.__dataclass_fields__:
        setattr(track, name, getattr(facts, name))


async def visible(session: AsyncSession, user_id: str, track_id: str) -> Access | None:
    """A user's access to a track that is in their library; None if they do not have it, or have removed it."""
    access = await session.get(Access, (user_id, track_id))
    return None if access is None or access.remove_time is not None else access


async def _grant(session: AsyncSession, user_id: str, track: Track) -> None:
    """Gives a user a track; one that they have removed comes back."""
    access = await session.get(Access, (user_id, track.id))
    if access is not None and access.remove_time is None:
        return
    if access is None:
        access = Access(user_id=user_id, track_id=track.id)
        session.add(access)
    access.create_time, access.remove_time = datetime.now(UTC), None
    await session.flush()
    await relist(session, track, user_id)


async def _take_away(session: AsyncSession, user_id: str, track_id: str) -> bool:
    """Ends a user's access to a track, and tells whether nobody has it any more."""
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
