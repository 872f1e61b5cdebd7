"""Objects of dead attempts and broken uploads are removed; objects in use are not."""

import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.jobs.context import JobContext
from services.common.jobs.queue import JobQueue
from services.common.storage.database import Database, migrate
from services.common.storage.objects import ObjectStore
from services.download.tracks.repository import AudioFacts, SongFacts, TrackRepository
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.usage import Usage
from services.separation import sweep as stem_sweep


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url(str(tmp_path / "objects"))


@pytest.fixture
async def jobs(tmp_path: Path, objects: ObjectStore) -> AsyncIterator[JobQueue]:
    async def separate(job: JobContext) -> dict[str, Any]:
        for lease in ("dead", "good"):
            await objects.put(f"stems/{job.job_id}/{lease}/vocals.flac", b"sound")
        if job.payload.get("fails"):
            raise ValueError("broken")
        return {"stems": [{"audio_key": f"stems/{job.job_id}/good/vocals.flac"}]}

    queue = JobQueue(f"sqlite:///{tmp_path}/jobs.sqlite", "sweep-test", handlers={"separation": separate}, slots=1)
    await queue.start()
    yield queue
    await queue.close()


async def test_stems_of_failed_attempts_are_removed(jobs: JobQueue, objects: ObjectStore) -> None:
    good = await jobs.submit("separation", {}, key="a", user="anna")
    bad = await jobs.submit("separation", {"fails": True}, key="b", user="anna")
    for job in (good, bad):
        assert [record async for record in jobs.watch(job.id)][-1].finished
    await objects.put("stems/forgotten-1/lease/vocals.flac", b"the library's")
    assert await stem_sweep.sweep(objects, jobs) == 3
    kept = [info.key async for info in objects.list("stems")]
    assert sorted(kept) == sorted([f"stems/{good.id}/good/vocals.flac", "stems/forgotten-1/lease/vocals.flac"])
    assert bad.id not in str(kept)
    await objects.delete(f"stems/{good.id}/good/vocals.flac")
    await stem_sweep.sweep(objects, jobs)
    assert [info.key async for info in objects.list(stem_sweep.RESULTS)] == []


async def test_a_restored_queue_does_not_remove_stems_of_results(
    jobs: JobQueue, objects: ObjectStore, tmp_path: Path
) -> None:
    """The library has them, but the queue was restored from an earlier state and runs the job again."""
    job = await jobs.submit("separation", {}, key="a", user="anna")
    assert [record async for record in jobs.watch(job.id)][-1].finished
    assert await stem_sweep.sweep(objects, jobs) == 1
    with sqlite3.connect(f"{tmp_path}/jobs.sqlite") as connection:
        result = json.dumps({"stems": [{"audio_key": f"stems/{job.id}/later/vocals.flac"}]})
        connection.execute("UPDATE job SET result = ?", (result,))
    await objects.put(f"stems/{job.id}/later/vocals.flac", b"an attempt of the restored queue")
    await objects.put(f"stems/{job.id}/third/vocals.flac", b"a dead attempt")
    assert await stem_sweep.sweep(objects, jobs) == 1
    kept = sorted([info.key async for info in objects.list("stems")])
    assert kept == [f"stems/{job.id}/good/vocals.flac", f"stems/{job.id}/later/vocals.flac"]


async def test_old_objects_without_a_track_are_removed(tmp_path: Path, objects: ObjectStore) -> None:
    url = f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    for key in (
        "uploads/broken",
        "originals/used",
        "originals/lost",
        "peaks/used",
        "peaks/lost",
        "stems/x/y/vocals.flac",
        "derived/originals/used.mp3",
        "derived/stems/gone/y/vocals.flac.mp3",
        f"derived/{'0' * 64}.mp3",  # the names in earlier versions
    ):
        await objects.put(key, b"sound")
    facts = AudioFacts("originals/used", "peaks/used", "covers/used.png", "hash", "flac", 1.0, 44_100, 2, -20.0)
    async with Database(url) as database:
        library = TrackRepository(database)
        await library.add_upload("anna", SongFacts("Song", ""), facts)
        hour, now = timedelta(hours=1), timedelta(0)

        def sweeper(older_than: timedelta, stems_older_than: timedelta) -> Sweeper:
            usage = Usage(database, objects, 0)
            return Sweeper(
                objects,
                database,
                usage,
                older_than=older_than,
                stems_older_than=stems_older_than,
                unneeded_for=now,
                trashed_for=now,
            )

        assert (await sweeper(hour, hour).sweep()).object_count == 0
        assert (await sweeper(now, hour).sweep(dry_run=True)).object_count == 5
        assert (await sweeper(now, hour).sweep()).object_count == 5
        kept = sorted([info.key async for info in objects.list()])
        used = ["derived/originals/used.mp3", "originals/used", "peaks/used"]
        assert kept == [*used, "stems/x/y/vocals.flac"]
        assert (await sweeper(hour, now).sweep()).object_count == 1
    assert sorted([info.key async for info in objects.list()]) == used
