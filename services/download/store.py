"""What the library keeps: tracks, who has them, their stems, and what is known of their music."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.common.database import Database
from services.common.errors import PreconditionError
from services.download.object_states import faults_of
from services.download.sorting import key_number, search_text, sort_artist, sort_title
from services.download.tables import MAX_SOURCE, MAX_TITLE, Access, Analysis, Edit, ObjectState, Stem, Track, Upload

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


@dataclass(frozen=True, slots=True)
class PartEdit:
    """When a user corrected a part, and whether it was computed anew after that."""

    edit_time: datetime
    computed_since: bool


@dataclass(frozen=True, slots=True)
class TrackData:
    """A track with its stems and analyses; as one user has it, with what that user has corrected, if asked for so."""

    track: Track
    access: Access | None = None
    stems: list[Stem] = field(default_factory=list)
    analyses: dict[str, dict[str, Any]] = field(default_factory=dict)
    edits: dict[str, PartEdit] = field(default_factory=dict)
    # Of the original and the stems that are missing or damaged, by key.
    faults: dict[str, ObjectState] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The title, or the user's own."""
        return self.track.title if self.access is None or self.access.title is None else self.access.title

    @property
    def artist(self) -> str:
        """The artist, or the user's own."""
        return self.track.artist if self.access is None or self.access.artist is None else self.access.artist

    def add_edit(self, row: Row[Any], content: dict[str, Any] | None) -> None:
        """Puts a user's edit (a row of `EDITS`) over the computed part, or beside it (None)."""
        if content is not None:
            self.analyses[row.part] = content
        since = row.create_time is not None and row.create_time > row.edit_time
        self.edits[row.part] = PartEdit(row.edit_time, since)


def expect_undamaged(data: TrackData, key: str) -> None:
    """Raises if an object of a track is known to be damaged.

    Raises:
        PreconditionError: reason ORIGINAL_DAMAGED.
    """
    state = data.faults.get(key)
    if state is not None and state.damaged_since is not None and state.missing_since is None:
        raise PreconditionError(
            "The file is damaged: its bytes are not those that arrived. Upload the same file again to repair it.",
            "ORIGINAL_DAMAGED",
        )


EDITS = select(Edit.track_id, Edit.part, Edit.summary, Edit.edit_time, Analysis.create_time).outerjoin(
    Analysis, and_(Analysis.track_id == Edit.track_id, Analysis.part == Edit.part)
)
"""A user's edits, each with the time of the computed part."""


class Library:
    """Reads and changes the library."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """Where it is kept."""
        return self._database

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
            await _grant(session, user_id, track)
            return track

    async def add_upload(self, user_id: str, song: SongFacts, facts: AudioFacts) -> tuple[Track, bool]:
        """The user's track with this content, and whether it is new."""
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
            return track, new

    async def set_audio(self, track_id: str, song: SongFacts, facts: AudioFacts) -> bool:
        """Notes that a link's audio has arrived; False if it had arrived before, or the track is gone."""
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None or track.audio_key:
                return False
            if not track.content_hash:
                _describe(track, song)
            _set_facts(track, facts)
            await relist(session, track)
            return True

    async def track(self, track_id: str, user_id: str | None = None, *, computed: bool = False) -> TrackData | None:
        """A track with everything known of it; None if there is none, or none that this user has.

        Args:
            track_id: of the track.
            user_id: whose edits count; nobody's, and every track is found, unless given.
            computed: the user's edits of parts do not count.
        """
        async with self._database.read() as session:
            track = await session.get(Track, track_id)
            access = await visible(session, user_id, track_id) if user_id is not None else None
            if track is None or (user_id is not None and access is None):
                return None
            stems = select(Stem).where(Stem.track_id == track_id).order_by(Stem.model, Stem.position)
            analyses = select(Analysis).where(Analysis.track_id == track_id)
            data = TrackData(
                track,
                access,
                list(await session.scalars(stems)),
                {analysis.part: analysis.content for analysis in await session.scalars(analyses)},
            )
            keys = [track.audio_key, *(stem.audio_key for stem in data.stems)]
            data.faults.update(await faults_of(session, keys))
            mine = EDITS.add_columns(Edit.content).where(Edit.user_id == user_id, Edit.track_id == track_id)
            for row in await session.execute(mine) if user_id is not None else ():
                data.add_edit(row, None if computed else row.content)
            return data

    async def set_analysis(self, track_id: str, part: str, content: dict[str, Any]) -> None:
        """Keeps a part, in place of an earlier one; users' edits of it stay."""
        async with self._database.write() as session:
            track = await session.get(Track, track_id, with_for_update=True)
            if track is None:
                return
            await session.merge(
                Analysis(
                    track_id=track_id,
                    part=part,
                    content=content,
                    summary=summary_of(content),
                    create_time=datetime.now(UTC),
                )
            )
            await session.flush()
            await relist(session, track)

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
                row = Stem(track_id=track_id, model=model, position=position, made_by=made_by, size_bytes=None, **stem)
                await session.merge(row)
            return sorted(keys - {stem[name] for stem in stems for name in ("audio_key", "peaks_key")})

    async def drop_stems(self, track_id: str, keys: list[str]) -> None:
        """Drops stems of a track whose objects are gone."""
        async with self._database.write() as session:
            await session.execute(delete(Stem).where(Stem.track_id == track_id, Stem.audio_key.in_(keys)))

    async def forget(self, user_id: str, track_id: str, removed_before: datetime) -> list[str] | None:
        """Ends the access of a user who removed a track before a time; None if they did not.

        Returns:
            Keys of the objects that nobody needs any more, if the user was the last to have the track.
        """
        async with self._database.write(lock=f"track {track_id}") as session:
            track = await session.get(Track, track_id, with_for_update=True)
            access = await session.get(Access, (user_id, track_id))
            if track is None or access is None or access.remove_time is None or access.remove_time > removed_before:
                return None
            if not await _take_away(session, user_id, track_id):
                return []
            stems = await session.scalars(select(Stem).where(Stem.track_id == track_id))
            keys = {key for stem in stems for key in (stem.audio_key, stem.peaks_key)}
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

    async def unfetched(self, older_than: timedelta) -> list[str]:
        """Ids of tracks whose audio has never arrived, those that were added less than `older_than` ago apart."""
        query = select(Track.id).where(Track.content_hash == "", Track.create_time < datetime.now(UTC) - older_than)
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


def _describe(track: Track, song: SongFacts) -> None:
    track.title, track.artist, track.license = (text[:MAX_TITLE] for text in (song.title, song.artist, song.license))
    track.source = song.source[:MAX_SOURCE]


def _set_facts(track: Track, facts: AudioFacts) -> None:
    for name in AudioFacts.__dataclass_fields__:
        setattr(track, name, getattr(facts, name))
    track.size_bytes = None


def summary_of(content: dict[str, Any]) -> dict[str, Any]:
    """A part's content without its lists, at any depth."""
    return {
        name: summary_of(value) if isinstance(value, dict) else value
        for name, value in content.items()
        if not isinstance(value, list)
    }


async def visible(session: AsyncSession, user_id: str, track_id: str) -> Access | None:
    """A user's access to a track that is in their library; None if they do not have it, or have removed it."""
    access = await session.get(Access, (user_id, track_id))
    return None if access is None or access.remove_time is not None else access


async def relist(session: AsyncSession, track: Track, user_id: str | None = None) -> None:
    """Renews what lists are sorted and filtered by, of one user or of all who have a track; its row is locked."""
    parts = select(Analysis.part, Analysis.summary).where(Analysis.track_id == track.id)
    parts = parts.where(Analysis.part.in_(("beats", "key")))
    computed: dict[str, dict[str, Any]] = {row.part: row.summary for row in await session.execute(parts)}
    edits = select(Edit.user_id, Edit.part, Edit.summary).where(Edit.track_id == track.id)
    accesses = select(Access).where(Access.track_id == track.id)
    if user_id is not None:
        edits, accesses = edits.where(Edit.user_id == user_id), accesses.where(Access.user_id == user_id)
    edited: dict[tuple[str, str], dict[str, Any]] = {
        (row.user_id, row.part): row.summary for row in await session.execute(edits)
    }
    for access in await session.scalars(accesses):
        beats, key = (edited.get((access.user_id, part), computed.get(part, {})) for part in ("beats", "key"))
        data = TrackData(track, access)
        access.sort_title, access.sort_artist = sort_title(data.title), sort_artist(data.artist, data.title)
        access.search_text = search_text(data.title, data.artist)
        access.tempo_bpm = float(beats.get("tempo", {}).get("bpm", 0.0))
        access.key_number = key_number(key.get("tonic", ""), key.get("mode", ""))
        access.duration_seconds = track.duration_seconds


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
        unfinished = select(Upload).where(Upload.id == key.split("/")[1], Upload.expire_time > datetime.now(UTC))
        return bool(await session.scalar(select(exists(unfinished))))
    tracks = select(Track).where(or_(Track.audio_key == key, Track.peaks_key == key, Track.cover_key == key))
    stems = select(Stem).where(or_(Stem.audio_key == key, Stem.peaks_key == key))
    return bool(await session.scalar(select(exists(tracks)))) or bool(await session.scalar(select(exists(stems))))
