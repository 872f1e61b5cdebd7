"""What the library keeps: tracks, who has them, their stems, and what is known of their music."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, MetaData, String, Text, delete, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.common.database import COLUMN_TYPES, NAMING, Database

MAX_TITLE, MAX_SOURCE = 300, 60


class Base(DeclarativeBase):
    """The library's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = COLUMN_TYPES


class Track(Base):
    """A song. `audio_key` is empty until its audio has arrived, and what describes the audio is 0 until then."""

    __tablename__ = "tracks"
    __table_args__ = (Index("ix_tracks_owner_content", "owner_id", "content_hash"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    title: Mapped[str] = mapped_column(String(MAX_TITLE))
    artist: Mapped[str] = mapped_column(String(MAX_TITLE))
    # Of a link: the same link is the same track, whoever asks. Null for an upload.
    source_url: Mapped[str | None] = mapped_column(Text, unique=True)
    # Of an upload: it is its owner's alone. Null for a link.
    owner_id: Mapped[str | None] = mapped_column(String(100))
    content_hash: Mapped[str] = mapped_column(String(64))
    audio_key: Mapped[str] = mapped_column(String(200), index=True)
    peaks_key: Mapped[str] = mapped_column(String(200), index=True)
    # A picture; empty if there is none.
    cover_key: Mapped[str] = mapped_column(String(200), index=True)
    # The site that a link leads to and the licence it tells; empty if unknown, and for an upload.
    source: Mapped[str] = mapped_column(String(MAX_SOURCE))
    license: Mapped[str] = mapped_column(String(MAX_TITLE))
    suffix: Mapped[str] = mapped_column(String(10))
    duration_seconds: Mapped[float]
    sample_rate_hz: Mapped[int]
    channels: Mapped[int]
    loudness_lufs: Mapped[float]
    create_time: Mapped[datetime]


class Access(Base):
    """A user who has a track in the library."""

    __tablename__ = "access"
    __table_args__ = (Index("ix_access_user_time", "user_id", "create_time", "track_id"),)

    user_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True, index=True)
    create_time: Mapped[datetime]


class Stem(Base):
    """A stem of a track; several tracks of equal audio may share its objects."""

    __tablename__ = "stems"

    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True)
    model: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    position: Mapped[int]
    audio_key: Mapped[str] = mapped_column(String(200), index=True)
    peaks_key: Mapped[str] = mapped_column(String(200))
    duration_seconds: Mapped[float]
    sample_rate_hz: Mapped[int]
    silent: Mapped[bool]
    gain: Mapped[float]
    made_by: Mapped[dict[str, Any]] = mapped_column(JSON)


class Analysis(Base):
    """One part of what is known of a track's music; `content` is its message (`Beats`, `Key` …) as ProtoJSON."""

    __tablename__ = "analyses"

    track_id: Mapped[str] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True)
    part: Mapped[str] = mapped_column(String(20), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


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


@dataclass(frozen=True, slots=True)
class SongFacts:
    """What tags or a site tell of a song; empty where they do not."""

    title: str
    artist: str
    source: str = ""
    license: str = ""


@dataclass(frozen=True, slots=True)
class TrackData:
    """A track with its stems and analyses."""

    track: Track
    stems: list[Stem] = field(default_factory=list)
    analyses: dict[str, dict[str, Any]] = field(default_factory=dict)


class Library:
    """Reads and changes the library."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_link(self, user_id: str, url: str) -> Track:
        """The track of a link, made if it is new; the user gets access."""
        async with self._database.write(lock=f"link {url}") as session:
            # Locked, so that nobody removes the track between the look at it and the access to it.
            track = await session.scalar(select(Track).where(Track.source_url == url).with_for_update())
            if track is None:
                track = _new_track(source_url=url)
                track.title = url[:MAX_TITLE]
                session.add(track)
                await session.flush()
            await _grant(session, user_id, track.id)
            return track

    async def add_upload(self, user_id: str, song: SongFacts, facts: AudioFacts) -> tuple[Track, bool]:
        """The user's track with this content, and whether it is new."""
        async with self._database.write(lock=f"upload {user_id}") as session:
            same = select(Track).where(Track.owner_id == user_id, Track.content_hash == facts.content_hash)
            track = await session.scalar(same.with_for_update())
            new = track is None
            if track is None:
                track = _new_track(owner_id=user_id)
                _set_facts(track, song, facts)
                session.add(track)
                await session.flush()
            await _grant(session, user_id, track.id)
            return track, new

    async def set_audio(self, track_id: str, song: SongFacts, facts: AudioFacts) -> bool:
        """Notes that a link's audio has arrived; False if it had arrived before, or the track is gone."""
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None or track.audio_key:
                return False
            _set_facts(track, song, facts)
            return True

    async def track(self, track_id: str, user_id: str | None = None) -> TrackData | None:
        """A track with everything known of it; None if there is none, or none that this user has."""
        async with self._database.read() as session:
            track = await session.get(Track, track_id)
            if track is None or (user_id is not None and not await _has(session, user_id, track_id)):
                return None
            stems = select(Stem).where(Stem.track_id == track_id).order_by(Stem.model, Stem.position)
            analyses = select(Analysis).where(Analysis.track_id == track_id)
            return TrackData(
                track,
                list(await session.scalars(stems)),
                {analysis.part: analysis.content for analysis in await session.scalars(analyses)},
            )

    async def tracks(
        self, user_id: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[tuple[TrackData, datetime]]:
        """A user's tracks with the time they got them, newest first, those before (time, id) if given.

        They come with stems, tempo and key, without the parts that are lists.
        """
        query = select(Track, Access.create_time).join(Access, Access.track_id == Track.id)
        query = query.where(Access.user_id == user_id)
        if before:
            query = query.where(tuple_(Access.create_time, Access.track_id) < tuple_(*before))
        query = query.order_by(Access.create_time.desc(), Access.track_id.desc()).limit(limit)
        async with self._database.read() as session:
            rows = [(track, time) for track, time in await session.execute(query)]
            ids = [track.id for track, _ in rows]
            data = {track.id: TrackData(track) for track, _ in rows}
            stems = select(Stem).where(Stem.track_id.in_(ids)).order_by(Stem.model, Stem.position)
            for stem in await session.scalars(stems):
                data[stem.track_id].stems.append(stem)
            short = select(Analysis).where(Analysis.track_id.in_(ids), Analysis.part.in_(("beats", "key")))
            for analysis in await session.scalars(short):
                data[analysis.track_id].analyses[analysis.part] = analysis.content
            return [(data[track.id], time) for track, time in rows]

    async def set_analysis(self, track_id: str, part: str, content: dict[str, Any]) -> None:
        """Keeps a part, in place of an earlier one."""
        async with self._database.write() as session:
            if await session.get(Track, track_id) is not None:
                await session.merge(Analysis(track_id=track_id, part=part, content=content))

    async def set_stems(
        self, track_id: str, model: str, stems: list[dict[str, Any]], made_by: dict[str, Any]
    ) -> list[str]:
        """Keeps the stems of a separation, in place of the same model's earlier ones of the same names.

        Returns:
            Keys of the earlier ones' objects, which other tracks may need.
        """
        async with self._database.write() as session:
            if await session.get(Track, track_id, with_for_update=True) is None:
                return []
            names = [stem["name"] for stem in stems]
            earlier = select(Stem).where(Stem.track_id == track_id, Stem.model == model, Stem.name.in_(names))
            keys = {key for stem in await session.scalars(earlier) for key in (stem.audio_key, stem.peaks_key)}
            for position, stem in enumerate(stems):
                await session.merge(Stem(track_id=track_id, model=model, position=position, made_by=made_by, **stem))
            return sorted(keys - {stem[name] for stem in stems for name in ("audio_key", "peaks_key")})

    async def remove(self, user_id: str, track_id: str) -> list[str] | None:
        """Takes a track from a user; None if the user does not have it.

        Returns:
            Keys of the objects that nobody needs any more, if the user was the last to have the track.
        """
        async with self._database.write(lock=f"track {track_id}") as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None or not await _has(session, user_id, track_id):
                return None
            if not await _take_away(session, user_id, track_id):
                return []
            stems = await session.scalars(select(Stem).where(Stem.track_id == track_id))
            keys = {key for stem in stems for key in (stem.audio_key, stem.peaks_key)}
            keys |= {key for key in (track.audio_key, track.peaks_key, track.cover_key) if key}
            await session.execute(delete(Track).where(Track.id == track_id))
            return [key for key in keys if not await _is_used(session, key)]

    async def discard_unfetched(self, user_id: str, track_id: str) -> None:
        """Takes a track whose audio has not arrived from a user, and removes it if nobody else has it."""
        async with self._database.write(lock=f"track {track_id}") as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None or track.audio_key:
                return
            if await _take_away(session, user_id, track_id):
                await session.execute(delete(Track).where(Track.id == track_id))

    async def unfetched(self, older_than: timedelta) -> list[str]:
        """Ids of tracks whose audio has not arrived, those that were added less than `older_than` ago apart."""
        query = select(Track.id).where(Track.audio_key == "", Track.create_time < datetime.now(UTC) - older_than)
        async with self._database.read() as session:
            return list(await session.scalars(query))

    async def users_of(self, track_id: str) -> list[str]:
        """Who has a track."""
        async with self._database.read() as session:
            return list(await session.scalars(select(Access.user_id).where(Access.track_id == track_id)))

    @asynccontextmanager
    async def deciding_on(self, key: str) -> AsyncIterator[bool]:
        """Whether a track needs an object; nobody else decides on that object until the block ends."""
        async with self._database.write(lock=f"object {key}") as session:
            yield await _is_used(session, key)

    async def unused(self, keys: list[str]) -> list[str]:
        """Those of these objects that no track needs."""
        async with self._database.read() as session:
            return [key for key in keys if not await _is_used(session, key)]

    async def count(self) -> int:
        """Number of tracks."""
        async with self._database.read() as session:
            return int(await session.scalar(select(func.count()).select_from(Track)) or 0)


def _new_track(*, source_url: str | None = None, owner_id: str | None = None) -> Track:
    return Track(
        id=uuid.uuid4().hex,
        title="",
        artist="",
        source="",
        license="",
        source_url=source_url,
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


def _set_facts(track: Track, song: SongFacts, facts: AudioFacts) -> None:
    track.title, track.artist, track.license = (text[:MAX_TITLE] for text in (song.title, song.artist, song.license))
    track.source = song.source[:MAX_SOURCE]
    for name in AudioFacts.__dataclass_fields__:
        setattr(track, name, getattr(facts, name))


async def _grant(session: AsyncSession, user_id: str, track_id: str) -> None:
    if not await _has(session, user_id, track_id):
        session.add(Access(user_id=user_id, track_id=track_id, create_time=datetime.now(UTC)))


async def _has(session: AsyncSession, user_id: str, track_id: str) -> bool:
    return await session.get(Access, (user_id, track_id)) is not None


async def _take_away(session: AsyncSession, user_id: str, track_id: str) -> bool:
    """Ends a user's access to a track, and tells whether nobody has it any more."""
    await session.execute(delete(Access).where(Access.user_id == user_id, Access.track_id == track_id))
    return not await session.scalar(select(exists(select(Access).where(Access.track_id == track_id))))


async def _is_used(session: AsyncSession, key: str) -> bool:
    tracks = select(Track).where(or_(Track.audio_key == key, Track.peaks_key == key, Track.cover_key == key))
    stems = select(Stem).where(or_(Stem.audio_key == key, Stem.peaks_key == key))
    return bool(await session.scalar(select(exists(tracks)))) or bool(await session.scalar(select(exists(stems))))
