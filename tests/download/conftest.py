"""A library without its gRPC server, with a running job queue, real files and a local web site."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.jobs.queue import JobQueue, job_key
from services.common.jobs.records import JobRecord
from services.common.storage.database import Database, migrate
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from services.download.config import DownloadSection, DownloadSettings
from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.pipeline import KIND, Pipeline
from services.download.pipeline.plan import Plan
from services.download.tables import Track
from services.download.tracks.repository import TrackRepository
from services.download.tracks.user_tracks import UserTracks
from services.download.tracks.versions import Versions
from services.download.upkeep import cleanup
from services.download.upkeep.store_identity import GuardedStore
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.trash import Remover, Trash
from services.download.upkeep.usage import Usage
from services.download.uploads.acquire import Acquirer
from tests.download.site import Site

NOTHING: Plan = {"separations": [], "analyses": []}


class RunningLibrary:
    """A library whose job queue runs. Separation and analysis are absent or replaced by stand-ins."""

    def __init__(self, settings: DownloadSettings, database: Database) -> None:
        self.objects = GuardedStore(open_store(settings), database)
        self.tracks = TrackRepository(database)
        self.user_tracks = UserTracks(database, timedelta(days=7))
        self.remover = Remover(self.objects, self.tracks)
        self.acquirer = Acquirer(settings, self.objects, self.tracks)
        self.versions = Versions(database)
        self.usage = Usage(database, self.objects, settings.download.quota_bytes)
        self.use(None)
        self.jobs = JobQueue(
            settings.database_url,
            "library-test",
            handlers={
                KIND: lambda job: self.pipeline.handle(job, self.jobs),
                cleanup.KIND: lambda job: cleanup.Cleanup(self.sweeper, self.trash, self.user_tracks).handle(job),
            },
            slots=settings.download.pipelines,
            per_user=settings.download.pipelines_per_user,
        )
        self.trash = Trash(self.tracks, self.user_tracks, self.remover, self.jobs)
        self.sweeper = Sweeper(
            self.objects, database, self.usage, older_than=timedelta(hours=1), stems_older_than=timedelta(days=1)
        )

    def use(self, services: Any, found_lyrics: FoundLyrics | None = None) -> None:
        """Replaces separation and analysis by stand-ins (None if no job needs them), and sets the lyrics site."""
        lyrics = found_lyrics or FoundLyrics("")
        self.pipeline = Pipeline(
            self.tracks, self.remover, self.acquirer.links, self.usage, services, lyrics, self.versions
        )

    async def add_link(self, user: str, url: str) -> tuple[str, str]:
        """Starts fetching a link; returns the ids of its track and job."""
        track = await self.tracks.add_link(user, url)
        return track.id, await self.start(user, track.id, NOTHING)

    async def keep_part(self, track_id: str, part: str, content: dict[str, Any]) -> None:
        """Stores an automatic result."""
        await self.versions.keep_part("anna", track_id, part, content, by_hand=False, again=False)

    async def keep_stems(self, track_id: str, stems: list[dict[str, Any]]) -> list[str]:
        """Stores automatic stems; returns the keys of the objects that they replace."""
        model = "spleeter_2stems"
        kept = await self.versions.keep_stems("anna", track_id, model, stems, {}, by_hand=False, again=False)
        return kept.replaced

    async def upload(self, user: str, path: Path, acquirer: Acquirer | None = None) -> Track:
        async def content() -> AsyncIterator[bytes]:
            yield await asyncio.to_thread(path.read_bytes)

        async def expect_room(size: int) -> None:
            assert size >= len(await asyncio.to_thread(path.read_bytes))

        track, _new = await (acquirer or self.acquirer).upload(user, path.name, content(), expect_room)
        return track

    async def start(self, user: str, track_id: str, plan: Plan) -> str:
        """Submits a track's job and returns its id."""
        payload = {"track_id": track_id, "plan": plan, "priority": 0}
        key = job_key(user, track_id, plan)
        return (await self.jobs.submit(KIND, payload, key=key, user=user, subject=track_id)).id

    async def end_of(self, job_id: str) -> JobRecord:
        async with asyncio.timeout(60):
            return [record async for record in self.jobs.watch(job_id)][-1]

    async def keys(self) -> list[str]:
        return sorted([info.key async for info in self.objects.list() if info.key != MARKER])


@pytest.fixture
def fetch_seconds() -> float:
    return 60.0


@pytest.fixture
def section() -> dict[str, Any]:
    """Additional settings of the service."""
    return {}


@pytest.fixture
def settings(tmp_path: Path, fetch_seconds: float, section: dict[str, Any]) -> DownloadSettings:
    section = {"allowed_hosts": ("127.0.0.1", "localhost"), "fetch_seconds": fetch_seconds} | section
    return DownloadSettings(data_dir=tmp_path / "data", download=DownloadSection(**section))


@pytest.fixture
async def library(settings: DownloadSettings) -> AsyncIterator[RunningLibrary]:
    await migrate(settings.database_url, "services.download")
    async with Database(settings.database_url) as database:
        library = RunningLibrary(settings, database)
        await library.objects.expect_right_store()
        await library.jobs.start()
        yield library
        await library.jobs.close()
        await library.acquirer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()
