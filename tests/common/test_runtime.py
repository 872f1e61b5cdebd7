"""What a process with jobs shows on its health address, to autoscalers and while it drains."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy.exc import OperationalError

from services.common.config import Settings
from services.common.job_store import JobStore
from services.common.jobs import JobQueue
from services.common.runtime import Callers, queue_route, run_with_jobs
from services.common.server import Draining
from services.common.telemetry import HealthServer
from tests.common.jobs_worker import make_queue
from tests.common.postgres import create_database
from tests.suite.running import free_ports


@pytest.fixture(params=["sqlite", "postgresql"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JobQueue]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}" if request.param == "sqlite" else create_database()
    queue = make_queue(url.replace("postgresql://", "postgresql+psycopg://"), tmp_path, slots=1)
    await queue.start()
    yield queue
    await queue.close()


async def ask(port: int, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await (response.json() if "json" in response.content_type else response.text())


async def test_autoscalers_are_told_of_jobs_that_wait_and_of_those_that_run(queue: JobQueue, tmp_path: Path) -> None:
    health = await HealthServer.start("127.0.0.1:0", [queue_route(queue)])
    nothing = {"queued": 0, "running": 0, "unfinished": 0, "oldestSeconds": 0.0}
    assert await ask(health.port, "/queue") == (200, nothing)

    jobs = [await queue.submit("count", {"seconds": 20}, key=f"k{number}", user="anna") for number in range(3)]
    async with asyncio.timeout(10):
        while not (tmp_path / "started").exists():
            await asyncio.sleep(0.05)
    _, told = await ask(health.port, "/queue")
    assert (told["queued"], told["running"], told["unfinished"]) == (2, 1, 3)
    assert told["oldestSeconds"] > 0

    for job in jobs:
        await queue.cancel(job.id)
    assert await ask(health.port, "/queue") == (200, nothing)
    await health.stop()


async def test_a_queue_whose_database_is_away_tells_no_number(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_store: JobStore) -> None:
        raise OperationalError("select", {}, Exception("gone"), connection_invalidated=True)

    monkeypatch.setattr(JobStore, "backlog", fail)
    health = await HealthServer.start("127.0.0.1:0", [queue_route(queue)])
    assert await ask(health.port, "/queue") == (503, {"error": "The database does not answer now."})
    await health.stop()


class Idle:
    """A worker that holds nothing."""

    async def close(self) -> None:
        pass


async def test_a_worker_that_drains_can_be_seen_until_its_job_has_ended(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    queue = make_queue(url, tmp_path, slots=1)
    (port,) = free_ports(1)
    running = asyncio.create_task(
        run_with_jobs(
            Callers(Settings(data_dir=tmp_path), "separation"),
            queue,
            Idle(),
            None,
            listen="127.0.0.1:0",
            health_listen=f"127.0.0.1:{port}",
            draining=Draining(),
            grace_seconds=20,
        )
    )
    async with asyncio.timeout(30):
        while await readiness(port) != 200:
            await asyncio.sleep(0.1)
        await queue.submit("count", {"seconds": 3}, key="k", user="anna")
        while not (tmp_path / "started").exists():
            await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        while await readiness(port) != 503:
            await asyncio.sleep(0.05)
        assert await ask(port, "/healthz") == (200, "ok\n")
        await running
    assert await asyncio.to_thread(JobStore(url).counts) == {"succeeded": 1}


async def readiness(port: int) -> int:
    """Status of /readyz; 0 if nobody listens."""
    try:
        return (await ask(port, "/readyz"))[0]
    except aiohttp.ClientError:
        return 0
