"""The feed of changes reads little: ids and versions ten times a second, whole jobs once for each change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.jobs.changes import PLACES_SHOWN
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.jobs.store import JobStore
from tests.common.postgres import create_database


@pytest.fixture(params=["sqlite", "postgresql"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JobQueue]:
    url = create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    queue = JobQueue(url, "feed-test")
    await queue.start()
    yield queue
    await queue.close()


async def follow(queue: JobQueue, seen: list[JobRecord]) -> "asyncio.Task[None]":
    """Collects all changes from now on."""

    async def collect() -> None:
        async for record in queue.changes(lambda _record: True):
            seen.append(record)  # noqa: PERF401 (one by one, as they come)

    task = asyncio.create_task(collect())
    await asyncio.sleep(0.5)
    return task


async def until_seen(seen: list[JobRecord], job_id: str, version: int) -> None:
    async with asyncio.timeout(10):
        while not any(record.id == job_id and record.version == version for record in seen):
            await asyncio.sleep(0.02)


async def test_a_job_is_read_whole_once_for_each_change(queue: JobQueue) -> None:
    statements: list[str] = []

    @sa.event.listens_for(queue._database.reading, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    seen: list[JobRecord] = []
    following = await follow(queue, seen)
    job = await queue.submit("count", {"filling": "x" * 1000}, key="k", user="anna")
    await until_seen(seen, job.id, 1)
    await asyncio.sleep(1)  # ten more looks, while the change is still recent
    following.cancel()
    looks = [statement for statement in statements if "changed_at >=" in statement]
    assert len(looks) >= 5
    assert not any("payload" in statement or "result" in statement for statement in looks)
    whole = [statement for statement in statements if "payload" in statement and " IN (" in statement]
    assert len(whole) == 1
    assert [(record.id, record.version, record.queue_position) for record in seen] == [(job.id, 1, 1)]
    assert seen[0].payload == {"filling": "x" * 1000}


async def test_progress_of_running_jobs_does_not_count_the_queue(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = JobStore.queue_positions
    counted = 0

    def noted(store: JobStore, *arguments: Any) -> dict[str, int]:
        nonlocal counted
        counted += 1
        return count(store, *arguments)

    noted.only_reads = True  # type: ignore[attr-defined]
    monkeypatch.setattr(JobStore, "queue_positions", noted)
    seen: list[JobRecord] = []
    following = await follow(queue, seen)
    running = await queue.submit("count", {}, key="running", user="anna")
    waiting = await queue.submit("count", {}, key="waiting", user="anna")
    await asyncio.to_thread(queue._leases.claim, "lease")
    await until_seen(seen, running.id, 2)
    await until_seen(seen, waiting.id, 1)
    async with asyncio.timeout(10):
        while [record.queue_position for record in seen if record.id == waiting.id][-1] != 1:
            await asyncio.sleep(0.02)
    before = counted
    for step in range(1, 6):
        await asyncio.to_thread(queue._leases.report, running.id, "lease", "counting", step / 10, None, {})
        await until_seen(seen, running.id, 2 + step)
    assert counted == before
    assert (await queue.get(waiting.id)).queue_position == 1
    following.cancel()


async def test_a_long_queue_is_read_up_to_the_last_place_shown(queue: JobQueue) -> None:
    seen: list[JobRecord] = []
    following = await follow(queue, seen)
    jobs = [await queue.submit("count", {}, key=f"k{number}", user="anna") for number in range(PLACES_SHOWN + 10)]
    for place, job in enumerate(jobs, 1):
        await until_seen(seen, job.id, 1)
        assert [record.queue_position for record in seen if record.id == job.id] == [place]
    assert set(queue._store.queue_positions(PLACES_SHOWN, [])) == {job.id for job in jobs[:PLACES_SHOWN]}
    del seen[:]
    await asyncio.to_thread(queue._leases.claim, "lease")
    async with asyncio.timeout(10):
        while len(seen) < PLACES_SHOWN + 1:
            await asyncio.sleep(0.02)
    following.cancel()
    # The first one runs, those behind it have moved up to the last place that is shown.
    assert {record.id: record.queue_position for record in seen} == {
        job.id: place for place, job in enumerate(jobs[: PLACES_SHOWN + 1])
    }


async def test_a_failed_look_loses_no_change(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    read = JobStore.records
    failures = 2

    def failing(store: JobStore, ids: list[str]) -> list[JobRecord]:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("The database is away.")
        return read(store, ids)

    monkeypatch.setattr(JobStore, "records", failing)
    seen: list[JobRecord] = []
    following = await follow(queue, seen)
    job = await queue.submit("count", {}, key="k", user="anna")
    await until_seen(seen, job.id, 1)
    following.cancel()
    assert failures == 0
