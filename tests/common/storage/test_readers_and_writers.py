"""Readers do not wait for waiting writers, however many there are."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, select, text

from services.common.jobs.database import JobDatabase
from services.common.jobs.queue import JobQueue
from services.common.storage.database import READING_POOL, WRITING_POOL, Database
from services.common.storage.sqlite_connection import open_sqlite
from services.common.storage.sqlite_files import prepare_file
from tests.common.postgres import create_database
from tests.common.storage.test_database import Base, Reading

WRITERS = 60
"""More than the connections in any pool."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/test.sqlite"


async def test_readers_do_not_wait_for_writers_that_are_blocked(url: str) -> None:
    async with Database(url) as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        started = 0

        async def write() -> None:
            nonlocal started
            started += 1
            async with database.write(lock="one at a time") as session:
                session.add(Reading(count=1))

        async def read() -> int:
            async with database.read() as session:
                return len(list(await session.scalars(select(Reading))))

        async with database.write(lock="one at a time") as holder:
            holder.add(Reading(count=0))
            await holder.flush()
            writers = [asyncio.create_task(write()) for _ in range(WRITERS)]
            while started < WRITERS:
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                for _ in range(5):
                    assert await asyncio.gather(*(read() for _ in range(20))) == [0] * 20
            assert not any(writer.done() for writer in writers)
        await asyncio.gather(*writers)
        assert await read() == WRITERS + 1


async def test_the_two_pools_together_hold_no_more_connections_than_one_did() -> None:
    assert sum(pool["pool_size"] + pool["max_overflow"] for pool in (READING_POOL, WRITING_POOL)) == 15


@asynccontextmanager
async def nobody_writes_jobs(url: str) -> AsyncIterator[None]:
    """Holds a lock under which others can read the table of jobs but not change it."""
    if url.startswith("postgresql"):
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("LOCK TABLE job IN EXCLUSIVE MODE")
            yield
        return
    file = open_sqlite(Path(url.removeprefix("sqlite:///")))
    file.execute("BEGIN IMMEDIATE")
    yield
    file.close()


async def test_jobs_can_be_read_while_many_wait_to_be_accepted(url: str) -> None:
    queue = JobQueue(url, "test")
    await queue.start()
    first = await queue.submit("count", {}, key="first", user="anna")
    started = 0

    async def submit(number: int) -> None:
        nonlocal started
        started += 1
        await queue.submit("count", {}, key=f"k{number}", user=f"user{number}")

    async with nobody_writes_jobs(url):
        writers = [asyncio.create_task(submit(number)) for number in range(WRITERS)]
        while started < WRITERS:
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            for _ in range(5):
                assert (await queue.get(first.id)).state == "queued"
                assert await queue.unfinished_count("anna") == 1
                watched = queue.watch(first.id)
                assert (await anext(watched)).id == first.id
                await watched.aclose()
                assert (await asyncio.to_thread(queue.look)).queued == 1
        assert not any(writer.done() for writer in writers)
    await asyncio.gather(*writers)
    assert (await queue.counts())["queued"] == WRITERS + 1
    await queue.close()


async def test_every_method_of_the_job_store_that_only_reads_is_marked(tmp_path: Path) -> None:
    """Connections for reading refuse to write, so a method that is marked wrongly fails in other tests."""
    url = f"sqlite:///{tmp_path}/test.sqlite"
    async with Database(url):
        database = JobDatabase(url)
        with database.reading.connect() as connection, pytest.raises(Exception, match="readonly"):
            connection.execute(text("CREATE TABLE job (id TEXT)"))
        database.close()


async def test_opening_a_file_again_releases_no_lock_of_open_connections(tmp_path: Path) -> None:
    """Otherwise the next process that closes the file deletes its log, while this process still uses it."""
    path = tmp_path / "test.sqlite"
    url = f"sqlite:///{path}"
    change = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('UPDATE readings SET count = 2')"
    async with Database(url) as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with database.write() as session:
            session.add(Reading(count=1))
        log = path.with_name(f"{path.name}-wal")
        inode = log.stat().st_ino
        prepare_file(make_url(url))
        await Database(url).close()
        JobDatabase(url).close()
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"{change}; c.commit(); c.close()", str(path)
        )
        assert await other.wait() == 0
        assert log.stat().st_ino == inode
        async with database.read() as session:
            assert (await session.scalars(select(Reading.count))).all() == [2]
        async with database.write() as session:
            session.add(Reading(count=3))
