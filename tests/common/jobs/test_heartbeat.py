"""A worker that stood still gives the others time to show that they live."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.common.jobs import heartbeat
from services.common.jobs.context import JobContext
from services.common.jobs.database import JobDatabase
from services.common.jobs.leases import LeaseStore
from services.common.jobs.queue import JobQueue

LEASE_SECONDS = 1.0
OTHER = "another worker's"


@pytest.fixture
async def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobQueue]:
    async def wait(_job: JobContext) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)
    queue = JobQueue(
        f"sqlite:///{tmp_path}/jobs.sqlite", "jobs-test", handlers={"wait": wait}, slots=1, lease_seconds=LEASE_SECONDS
    )
    await queue.start()
    yield queue
    await queue.close()


async def test_a_locked_database_costs_no_living_worker_its_lease(queue: JobQueue, tmp_path: Path) -> None:
    """All heartbeats wait for the lock. The first worker that gets it must not consider the others dead."""
    for number in range(2):
        await queue.submit("wait", {}, key=f"k{number}", user="anna")
    async with asyncio.timeout(20):
        while not queue.busy:
            await asyncio.sleep(0.05)
    other = JobDatabase(f"sqlite:///{tmp_path}/jobs.sqlite")
    leases = LeaseStore(other, 60.0)
    job = await asyncio.to_thread(leases.claim, OTHER)
    assert job is not None
    held = {(job.id, OTHER)}
    for _ in range(round(1.5 * LEASE_SECONDS / 0.1)):
        assert await asyncio.to_thread(leases.beat, held) == held
        await asyncio.sleep(0.1)
    with sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(1.5 * LEASE_SECONDS)
        writer.execute("ROLLBACK")
    writer.close()
    await asyncio.sleep(0.4 * LEASE_SECONDS)
    assert await asyncio.to_thread(leases.beat, held) == held
    other.close()


async def test_an_idle_worker_takes_no_lease_that_could_not_be_renewed(queue: JobQueue, tmp_path: Path) -> None:
    """It writes nothing itself, so it does not notice that the database was locked."""
    queue.limit(0)
    await queue.submit("wait", {}, key="k", user="anna")
    other = JobDatabase(f"sqlite:///{tmp_path}/jobs.sqlite")
    leases = LeaseStore(other, 60.0)
    job = await asyncio.to_thread(leases.claim, OTHER)
    assert job is not None
    held = {(job.id, OTHER)}
    await asyncio.sleep(1.5 * LEASE_SECONDS)
    assert await asyncio.to_thread(leases.beat, held) == held
    with sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(2 * LEASE_SECONDS)
        writer.execute("ROLLBACK")
    writer.close()
    await asyncio.sleep(0.1 * LEASE_SECONDS)
    assert await asyncio.to_thread(leases.beat, held) == held
    async with asyncio.timeout(20):
        while (await queue.get(job.id)).state == "running":  # it is silent now, and the database is not locked
            await asyncio.sleep(0.05)
    assert not await asyncio.to_thread(leases.finish, job.id, OTHER, "succeeded", {}, None)
    assert (await queue.get(job.id)).state == "queued"
    other.close()
