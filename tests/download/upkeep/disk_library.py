"""A library without a job queue, whose objects are in a directory that tests can move or change."""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from services.common.errors import PreconditionError, UnavailableError
from services.common.storage.database import Database
from services.download.tables import Access, Stem, Track
from services.download.tracks.messages import track_message
from services.download.tracks.repository import TrackRepository
from services.download.upkeep.store_identity import GuardedStore
from services.download.upkeep.sweep import Report, Sweeper
from services.download.upkeep.usage import Usage

NOW, DAY = timedelta(0), timedelta(days=1)
NEW = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class DiskLibrary:
    """A library in a directory. Tests move the directory to stand for a volume that is not mounted."""

    database: Database
    store: GuardedStore
    root: Path

    @property
    def tracks(self) -> TrackRepository:
        return TrackRepository(self.database)

    async def add(self, count: int) -> list[str]:
        """Adds tracks with an original and a stem each. Returns the keys of the originals."""
        tracks = []
        for _ in range(count):
            content = uuid.uuid4().bytes
            track = track_of(f"originals/{hashlib.sha256(content).hexdigest()}")
            for key in (track.audio_key, stem_of(track.id).audio_key):
                write(self.root / key, content)
            tracks.append(track)
        async with self.database.write() as session:
            session.add_all(tracks)
            await session.flush()
            session.add_all(stem_of(track.id) for track in tracks)
            session.add_all(Access(user_id="anna", track_id=track.id, create_time=NEW) for track in tracks)
        return [track.audio_key for track in tracks]

    async def sweep(
        self, *, dry_run: bool = False, unneeded: timedelta = NOW, trashed: timedelta = DAY, missing: timedelta = NOW
    ) -> Report:
        sweeper = Sweeper(
            self.store,
            self.database,
            Usage(self.database, self.store, 0),
            older_than=NOW,
            stems_older_than=NOW,
            unneeded_for=unneeded,
            trashed_for=trashed,
            missing_for=missing,
        )
        return await sweeper.sweep(dry_run=dry_run)

    async def refusal(self) -> str:
        with pytest.raises((UnavailableError, PreconditionError)) as refused:
            await self.sweep()
        return refused.value.reason

    async def records(self) -> tuple[int, int]:
        """The number of tracks with an original, and the number of stems."""
        async with self.database.read() as session:
            originals = await session.scalar(select(func.count()).where(Track.audio_key != ""))
            stems = await session.scalar(select(func.count()).select_from(Stem))
        return int(originals or 0), int(stems or 0)

    async def fault(self, key: str) -> tuple[str, datetime | None]:
        """The reason and the time of the fault of the track with this original, as its user sees them."""
        async with self.database.read() as session:
            track_id = await session.scalar(select(Track.id).where(Track.audio_key == key))
        data = await self.tracks.track(track_id or "", "anna")
        assert data is not None
        message = track_message(data)
        if not message.HasField("fault"):
            return "", None
        return message.fault.reason, message.fault.since.ToDatetime(UTC)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


def track_of(key: str) -> Track:
    return Track(
        id=uuid.uuid4().hex,
        title="Song",
        artist="",
        source="",
        license="",
        owner_id="anna",
        content_hash=uuid.uuid4().hex,
        audio_key=key,
        peaks_key="",
        cover_key="",
        suffix="flac",
        duration_seconds=1.0,
        sample_rate_hz=44_100,
        channels=2,
        loudness_lufs=-20.0,
        create_time=NEW,
    )


def stem_of(track_id: str) -> Stem:
    return Stem(
        track_id=track_id,
        model="m",
        name="vocals",
        position=0,
        audio_key=f"stems/{track_id}/a/vocals.flac",
        peaks_key="",
        duration_seconds=1.0,
        sample_rate_hz=44_100,
        silent=False,
        gain=1.0,
        made_by={},
    )


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
