"""A process that is frozen within a transaction does not keep others waiting for its locks."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from services.common.errors import UnavailableError
from services.common.jobs import database as job_database
from services.common.jobs.queue import JobQueue
from services.common.jobs.tables import job_table
from services.common.storage import database as storage_database
from services.common.storage.database import Database
from tests.common.postgres import create_database


async def test_jobs_continue_when_a_frozen_process_has_locked_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_database, "IDLE_SECONDS", 1.0)
    url = create_database().replace("postgresql://", "postgresql+psycopg://")
    queue = JobQueue(url, "no-worker")
    await queue.start()
    job = await queue.submit("wait", {}, key="k", user="anna")
    frozen = job_database.JobDatabase(url)
    with frozen.engine.connect() as connection:
        connection.execute(sa.update(job_table).values(detail={"frozen": True}))
        async with asyncio.timeout(20):
            await queue.cancel(job.id)
        with pytest.raises(OperationalError, match="idle-in-transaction"):
            connection.execute(sa.select(job_table.c.id))
    record = await queue.get(job.id)
    assert (record.state, record.detail) == ("cancelled", {})
    frozen.close()
    await queue.close()


async def test_a_lock_of_a_frozen_process_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_database, "IDLE_SECONDS", 1.0)
    url = create_database()

    async def freeze() -> None:
        async with frozen.write(lock="track 1") as session:
            locked.set()
            await released.wait()
            await session.execute(sa.select(1))

    locked, released = asyncio.Event(), asyncio.Event()
    async with Database(url) as frozen, Database(url) as other:
        freezing = asyncio.create_task(freeze())
        await locked.wait()
        async with asyncio.timeout(20), other.write(lock="track 1") as session:
            assert await session.scalar(sa.select(1)) == 1
        released.set()
        with pytest.raises(UnavailableError):
            await freezing
        async with frozen.write(lock="track 1") as session:
            assert await session.scalar(sa.select(1)) == 1
