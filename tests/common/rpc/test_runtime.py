"""The health address of a process with jobs, for autoscalers and while it drains."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from services.common.config import Settings
from services.common.errors import DataLossError
from services.common.jobs import metrics
from services.common.jobs.database import JobDatabase
from services.common.jobs.queue import JobQueue
from services.common.jobs.store import JobStore
from services.common.observe.telemetry import HealthServer
from services.common.rpc.client import open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.runtime import VerifiedCallers, queue_route, run_with_jobs
from services.common.rpc.server import Service
from tests.common.damage import zero_all_pages
from tests.common.jobs.worker_process import make_queue
from tests.common.postgres import create_database
from tests.common.rpc.echo import Echo
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


async def test_autoscalers_see_waiting_and_running_jobs(queue: JobQueue, tmp_path: Path) -> None:
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


async def test_metrics_count_waiting_running_and_ended_jobs(queue: JobQueue, tmp_path: Path) -> None:
    health = await HealthServer.start("127.0.0.1:0")

    async def value(line: str) -> float | None:
        _, text = await ask(health.port, "/metrics")
        return next((float(each.rsplit(" ", 1)[1]) for each in text.splitlines() if each.startswith(line + " ")), None)

    waiting = 'stemtube_queue_jobs{queue="jobs-test",state="queued"}'
    succeeded = 'stemtube_jobs_ended_total{kind="count",queue="jobs-test",reason="",state="succeeded"}'
    refused = 'stemtube_jobs_ended_total{kind="refuse",queue="jobs-test",reason="NOT_AUDIO",state="failed"}'
    worked = 'stemtube_job_work_seconds_count{kind="count",queue="jobs-test"}'
    kept = 'stemtube_job_submissions_total{kind="count",outcome="kept",queue="jobs-test"}'
    before = {line: await value(line) or 0 for line in (succeeded, refused, worked, kept)}
    assert await value(waiting) is None
    with metrics.queue_metrics(queue.name, queue.look):
        first = await queue.submit("count", {"seconds": 1}, key="k", user="anna")
        other = await queue.submit("refuse", {}, key="r", user="anna")
        async with asyncio.timeout(10):
            while not (tmp_path / "started").exists():
                await asyncio.sleep(0.05)
        assert await value(waiting) == 1
        assert await value('stemtube_worker_jobs{queue="jobs-test"}') == 1
        for job in (first, other):
            _ = [record async for record in queue.watch(job.id)]
        await queue.submit("count", {"seconds": 1}, key="k", user="anna")
        assert await value(waiting) == 0
    assert await value(waiting) is None
    async with asyncio.timeout(10):
        while (await value(refused) or 0) == before[refused]:  # watchers may get the end before it is counted
            await asyncio.sleep(0.05)
    assert {line: (await value(line) or 0) - number for line, number in before.items()} == dict.fromkeys(before, 1)
    async with asyncio.timeout(10):
        while (await value('stemtube_worker_beat_timestamp_seconds{queue="jobs-test"}') or 0) < time.time() - 5:
            await asyncio.sleep(0.05)
    await health.stop()


async def test_a_queue_reports_no_numbers_while_its_database_is_away(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_store: JobStore) -> None:
        raise OperationalError("select", {}, Exception("gone"), connection_invalidated=True)

    monkeypatch.setattr(JobStore, "backlog", fail)
    health = await HealthServer.start("127.0.0.1:0", [queue_route(queue)])
    assert await ask(health.port, "/queue") == (503, {"error": "The database does not answer now."})
    await health.stop()


class Idle:
    """A worker without resources."""

    async def close(self) -> None:
        pass


async def test_a_draining_worker_answers_until_its_job_has_ended(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    queue = make_queue(url, tmp_path, slots=1)
    (port,) = free_ports(1)
    running = asyncio.create_task(
        run_with_jobs(
            VerifiedCallers(Settings(data_dir=tmp_path), "separation"),
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
    assert await asyncio.to_thread(JobStore(JobDatabase(url)).counts) == {"succeeded": 1}


async def readiness(port: int) -> int:
    """Status of /readyz; 0 if nobody listens."""
    try:
        return (await ask(port, "/readyz"))[0]
    except aiohttp.ClientError:
        return 0


async def health(port: int, service: str) -> str:
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.parametrize("serves", [True, False], ids=["serves", "works"])
async def test_a_process_whose_database_is_damaged_while_it_runs_is_not_ready(tmp_path: Path, serves: bool) -> None:
    path = tmp_path / "jobs.sqlite"
    queue = make_queue(f"sqlite:///{path}", tmp_path, slots=1)
    port, health_port = free_ports(2)
    running = asyncio.create_task(
        run_with_jobs(
            VerifiedCallers(Settings(data_dir=tmp_path), "separation"),
            queue,
            Idle(),
            Service("test.Echo", Echo().register) if serves else None,
            listen=f"127.0.0.1:{port}",
            health_listen=f"127.0.0.1:{health_port}",
            draining=Draining(),
            grace_seconds=1,
        )
    )
    async with asyncio.timeout(60):
        while await readiness(health_port) != 200:
            await asyncio.sleep(0.1)
    async with asyncio.timeout(20):
        if serves:
            assert await health(port, "test.Echo") == "SERVING"
        with capture_logs() as logs:
            await asyncio.to_thread(zero_all_pages, path)
            while await readiness(health_port) != 503:
                with contextlib.suppress(DataLossError):  # a connection may have read before what it needs
                    await queue.submit("count", {}, key="k", user="anna")
            assert "(DATABASE_DAMAGED)" in (await ask(health_port, "/readyz"))[1]
            while serves and await health(port, "test.Echo") != "NOT_SERVING":
                await asyncio.sleep(0.05)
            assert not serves or await health(port, "") == "SERVING", "a restart would not repair it"
        (line,) = [line for line in logs if line["event"] == "database damaged"]
        assert str(path) in line["detail"]
        assert "stemtube admin restore" in line["detail"]
        os.kill(os.getpid(), signal.SIGTERM)
        await running
