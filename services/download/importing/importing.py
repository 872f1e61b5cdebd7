"""Adds tracks of another installation, and changes nothing that exists already."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from services.common.errors import InvalidInputError
from services.common.storage.database import Database
from services.download.tables import Access, Analysis, Stem, Track
from services.download.tracks.repository import AudioFacts, SongFacts, TrackRepository
from services.download.tracks.results import no_such_track, summary_of, update_list_columns

BACKEND = "stemtube-import"
# MP3 decoders add up to 0.1 s. With a larger difference, a stem belongs to another song or recording.
STEM_TOLERANCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ExistingTrack:
    """A user's track, and the names of its stems (MODEL/NAME) and parts."""

    user_id: str
    track: Track
    stems: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)


class Importer:
    """Adds missing tracks, stems and parts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tracks = TrackRepository(database)

    async def has_audio(self, url: str) -> bool:
        """Whether the audio of a link has arrived."""
        async with self._database.read() as session:
            return bool(await session.scalar(select(Track.audio_key).where(Track.source_url == url)))

    async def existing(self, user_ids: Collection[str], *, url: str = "", sha256: str = "") -> list[ExistingTrack]:
        """The users' tracks of a link, or of a file with this hash, including removed ones that can be restored."""
        query = select(Access.user_id, Track).join(Track).where(Access.user_id.in_(user_ids))
        own = (Track.owner_id == Access.user_id, Track.audio_key == f"originals/{sha256}")
        query = query.where(Track.source_url == url, Track.audio_key != "") if url else query.where(*own)
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        return [await self._describe(row.user_id, row.Track) for row in rows]

    async def add_link(self, user_ids: Sequence[str], url: str, song: SongFacts, facts: AudioFacts | None) -> None:
        """Gives users the track of a link.

        Args:
            user_ids: the users.
            url: the link.
            song: title and artist of the song.
            facts: describe the audio, which is used unless the track has some; None if it has.
        """
        existing = {found.user_id for found in await self.existing(user_ids, url=url)}
        for user_id in user_ids:
            if user_id not in existing:
                track = await self._tracks.add_link(user_id, url)
                if facts is not None:
                    await self._tracks.set_audio(track.id, song, facts)

    async def add_upload(self, user_ids: Sequence[str], song: SongFacts, facts: AudioFacts) -> list[ExistingTrack]:
        """Gives each user a track of their own with this audio."""
        return [
            await self._describe(user_id, (await self._tracks.add_upload(user_id, song, facts))[0])
            for user_id in user_ids
        ]

    async def _describe(self, user_id: str, track: Track) -> ExistingTrack:
        async with self._database.read() as session:
            stems = await session.execute(select(Stem.model, Stem.name).where(Stem.track_id == track.id))
            parts = await session.scalars(select(Analysis.part).where(Analysis.track_id == track.id))
            return ExistingTrack(user_id, track, [f"{row.model}/{row.name}" for row in stems], list(parts))

    async def duration_of(self, track_ids: Collection[str]) -> float:
        """The duration of tracks with the same audio, in seconds.

        Raises:
            NotFoundError: one of them does not exist or has no audio (reason NO_SUCH_TRACK).
        """
        async with self._database.read() as session:
            query = select(Track.duration_seconds).where(Track.id.in_(track_ids), Track.audio_key != "")
            durations = list(await session.scalars(query))
        if not durations or len(durations) < len(set(track_ids)):
            raise no_such_track()
        return min(durations)

    async def add_stem(
        self, track_ids: Collection[str], model: str, name: str, position: int, keys: dict[str, str], facts: AudioFacts
    ) -> None:
        """Adds a stem to those tracks that have no stem of this model and name.

        Raises:
            InvalidInputError: the stem is not as long as a track (reason BAD_STEM).
        """
        for track_id in track_ids:
            async with self._database.write() as session:
                track = await session.get(Track, track_id, with_for_update=True)
                if track is None or await session.get(Stem, (track_id, model, name)) is not None:
                    continue
                if abs(track.duration_seconds - facts.duration_seconds) > STEM_TOLERANCE_SECONDS:
                    raise InvalidInputError(
                        f"the stem takes {facts.duration_seconds:.1f} s, its song {track.duration_seconds:.1f} s",
                        "BAD_STEM",
                    )
                session.add(
                    Stem(
                        track_id=track_id,
                        model=model,
                        name=name,
                        position=position,
                        duration_seconds=facts.duration_seconds,
                        sample_rate_hz=facts.sample_rate_hz,
                        silent=facts.is_silent,
                        gain=1.0,
                        made_by={"backend": BACKEND, "model": model},
                        size_bytes=None,
                        **keys,
                    )
                )

    async def add_part(self, track_ids: Collection[str], part: str, content: dict[str, Any]) -> None:
        """Adds a part (ProtoJSON) to those tracks that do not have it."""
        content = content | {"madeBy": {"backend": BACKEND}}
        for track_id in track_ids:
            async with self._database.write() as session:
                track = await session.get(Track, track_id, with_for_update=True)
                if track is None or await session.get(Analysis, (track_id, part)) is not None:
                    continue
                session.add(
                    Analysis(
                        track_id=track_id,
                        part=part,
                        content=content,
                        summary=summary_of(content),
                        create_time=datetime.now(UTC),
                    )
                )
                await session.flush()
                await update_list_columns(session, track)
