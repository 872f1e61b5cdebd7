"""Requests are stored before they are sent; blocked writes delay only this."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.common.jobs.context import JobContext
from services.common.jobs.queue import JobQueue
from services.download.pipeline.sent_requests import first_request

JOBS = 8


class Sending:
    """Jobs that make their requests all at the same time."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.making = asyncio.Semaphore(0)
        self.made = asyncio.Event()
        self.queue = JobQueue(f"sqlite:///{database}", "sending-test", handlers={"send": self._send}, slots=JOBS)

    async def _send(self, job: JobContext) -> dict[str, Any]:
        async def make() -> dict[str, Any]:
            self.making.release()
            await self.made.wait()
            return {"of": job.job_id}

        return await first_request(job, "names", make) or {}


@pytest.fixture
async def sending(tmp_path: Path) -> AsyncIterator[Sending]:
    sending = Sending(tmp_path / "jobs.sqlite")
    await sending.queue.start()
    yield sending
    await sending.queue.close()


async def test_blocked_writes_of_requests_do_not_delay_other_threads(sending: Sending) -> None:
    """They once waited in the threads that all files and metrics of the process use."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    records = [await sending.queue.submit("send", {}, key=str(number), user="anna") for number in range(JOBS)]
    async with asyncio.timeout(60):
        for _ in records:
            await sending.making.acquire()
        with contextlib.closing(sqlite3.connect(sending.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sending.made.set()
            await asyncio.sleep(0.2)
            async with asyncio.timeout(2):
                assert await asyncio.to_thread(int) == 0
        for record in records:
            ended = [state async for state in sending.queue.watch(record.id)][-1]
            assert (ended.state, ended.result) == ("succeeded", {"of": record.id})
