"""Jobs through crashes: real worker processes, real signals, on SQLite and on PostgreSQL."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from tests.common.jobs.worker_process import SERVICE
from tests.common.postgres import create_database

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    else:
        yield create_database()


class Workers:
    """Starts worker processes and ends them all."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self.running: list[asyncio.subprocess.Process] = []

    async def start(
        self, slots: int = 1, grace_seconds: float = 0, per_user: int = 0, retry_seconds: float = 1
    ) -> asyncio.subprocess.Process:
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.common.jobs.worker_process",
            self._url,
            str(self._folder),
            str(slots),
            str(per_user),
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": "protos/gen",
                "GRACE_SECONDS": str(grace_seconds),
                "RETRY_SECONDS": str(retry_seconds),
            },
        )
        self.running.append(worker)
        await until(lambda: (self._folder / f"ready-{worker.pid}").exists())
        return worker

    async def end(self) -> None:
        for worker in self.running:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()


@pytest.fixture
async def workers(url: str, tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(url, tmp_path)
    yield workers
    await workers.end()


@pytest.fixture
async def queue(url: str) -> AsyncIterator[JobQueue]:
    """The queue of a `serve` process: it submits and watches jobs, and runs none."""
    queue = JobQueue(url, SERVICE)
    await queue.start()
    yield queue
    await queue.close()


async def until(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def end_of(queue: JobQueue, job_id: str, seconds: float = 60) -> list[JobRecord]:
    async with asyncio.timeout(seconds):
        return [record async for record in queue.watch(job_id)]


def lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines() if (folder / name).exists() else []


async def test_a_killed_workers_job_continues_elsewhere_without_repeating_steps(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    worker = await workers.start()
    job = await queue.submit("count", {"seconds": 3}, key="k", user="anna")
    watching = asyncio.create_task(end_of(queue, job.id))
    await until(lambda: lines(tmp_path, "started"))
    worker.kill()
    await worker.wait()
    await workers.start()
    seen = await watching
    assert (seen[-1].state, seen[-1].result, seen[-1].attempts) == ("succeeded", {"sum": 3}, 2)
    assert len(lines(tmp_path, "first")) == 1
    assert len(lines(tmp_path, "second")) == 1
    fractions = [record.fraction for record in seen]
    assert fractions == sorted(fractions)


@pytest.mark.long
async def test_a_frozen_worker_that_wakes_up_cannot_change_the_result(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    frozen = await workers.start()
    job = await queue.submit("count", {"seconds": 4}, key="k", user="anna")
    await until(lambda: lines(tmp_path, "started"))
    frozen.send_signal(signal.SIGSTOP)
    await workers.start()
    await until(lambda: len(lines(tmp_path, "started")) == 2)
    frozen.send_signal(signal.SIGCONT)
    seen = await end_of(queue, job.id)
    assert (seen[-1].state, seen[-1].attempts) == ("succeeded", 2)
    version = seen[-1].version
    await asyncio.sleep(2)
    assert (await queue.get(job.id)).version == version
    assert len(lines(tmp_path, "second")) == 1, "the work that lost its lease was not stopped"


@pytest.mark.long
async def test_a_job_that_kills_its_worker_five_times_fails(queue: JobQueue, workers: Workers, tmp_path: Path) -> None:
    job = await queue.submit("crash", {}, key="poison", user="anna")
    ending = asyncio.create_task(end_of(queue, job.id, 90))
    while not ending.done():
        await workers.start()
        await asyncio.wait({ending, asyncio.create_task(workers.running[-1].wait())}, return_when="FIRST_COMPLETED")
    final = ending.result()[-1]
    assert (final.state, final.attempts) == ("failed", 5)
    assert final.error is not None
    assert final.error["reason"] == "WORKER_DIED"
    assert len(lines(tmp_path, "crash")) == 5
    healthy = await queue.submit("count", {}, key="k", user="anna")
    assert (await end_of(queue, healthy.id))[-1].state == "succeeded"


async def test_a_stopping_worker_returns_its_job_at_once(queue: JobQueue, workers: Workers, tmp_path: Path) -> None:
    worker = await workers.start()
    other = await workers.start()
    job = await queue.submit("count", {"seconds": 3}, key="k", user="anna")
    await until(lambda: lines(tmp_path, "started"))
    first = int(lines(tmp_path, "started")[0].split()[-1])
    leaving = worker if worker.pid == first else other
    leaving.send_signal(signal.SIGTERM)
    await until(lambda: len(lines(tmp_path, "started")) == 2, seconds=3)
    seen = await end_of(queue, job.id)
    assert (seen[-1].state, seen[-1].attempts) == ("succeeded", 1)
    assert await asyncio.wait_for(leaving.wait(), 10) == 0


@pytest.mark.long
async def test_a_stopping_worker_finishes_jobs_within_its_grace(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    worker = await workers.start(grace_seconds=10)
    job = await queue.submit("count", {"seconds": 2}, key="k", user="anna")
    await until(lambda: lines(tmp_path, "started"))
    worker.send_signal(signal.SIGTERM)
    late = await queue.submit("count", {}, key="late", user="anna")
    assert await asyncio.wait_for(worker.wait(), 15) == 0
    assert (await queue.get(job.id)).state == "succeeded"
    assert (await queue.get(late.id)).state == "queued"


async def test_many_jobs_on_three_workers_are_each_done_once(queue: JobQueue, workers: Workers, tmp_path: Path) -> None:
    for _ in range(3):
        await workers.start(slots=2)
    jobs = [await queue.submit("count", {"seconds": 0.05}, key=f"k{n}", user=f"u{n % 5}") for n in range(40)]
    for job in jobs:
        assert (await end_of(queue, job.id))[-1].state == "succeeded"
    assert Counter(lines(tmp_path, "second")) == Counter(job.id for job in jobs)


@pytest.mark.long
async def test_one_users_long_queue_does_not_hold_up_another(queue: JobQueue, workers: Workers, tmp_path: Path) -> None:
    await asyncio.gather(*(queue.submit("count", {"seconds": 0.05}, key=f"a{n}", user="anna") for n in range(500)))
    await workers.start()
    await until(lambda: len(lines(tmp_path, "started")) >= 3)
    before = len(lines(tmp_path, "started"))
    jobs = [await queue.submit("count", {"seconds": 0.05}, key=f"b{n}", user="ben") for n in range(3)]
    assert (await queue.get(jobs[0].id)).queue_position <= 3
    for job in jobs:
        await end_of(queue, job.id)
    users = [line.split()[0] for line in lines(tmp_path, "started")][before:]
    assert users.index("ben") <= 3
    last = len(users) - 1 - users[::-1].index("ben")
    assert last <= 8, "they alternate with the other user's"


async def test_a_job_that_waits_for_its_next_attempt_holds_no_slot_and_outlives_its_worker(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    worker = await workers.start(slots=1, retry_seconds=5)
    job = await queue.submit("flaky", {}, key="f", user="anna")
    seen = queue.watch(job.id)
    waiting = await anext(record async for record in seen if record.not_before is not None)
    await seen.aclose()
    assert (waiting.state, waiting.attempts, waiting.queue_position) == ("queued", 1, 0)
    assert waiting.retry_error
    assert waiting.retry_error["message"] == "The other side sleeps."
    other = await queue.submit("count", {"seconds": 0.1}, key="k", user="anna")
    assert (await end_of(queue, other.id))[-1].state == "succeeded"
    assert (await queue.get(job.id)).attempts == 1, "it did not wait"
    worker.kill()
    await worker.wait()
    await workers.start(slots=1, retry_seconds=0.1)
    final = (await end_of(queue, job.id))[-1]
    assert (final.state, final.attempts, final.deaths) == ("succeeded", 3, 0)
    assert len(lines(tmp_path, "flaky")) == 3


@pytest.mark.long
async def test_a_users_running_jobs_are_limited_over_all_processes_and_none_is_lost(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    for _ in range(2):
        await workers.start(slots=20, per_user=3)
    jobs = [await queue.submit("busy", {}, key=f"{user}{n}", user=user) for n in range(12) for user in ("anna", "ben")]
    await until(lambda: lines(tmp_path, "busy"))
    # Other workers run its jobs, and admit those that it would have admitted.
    workers.running[0].kill()
    await workers.running[0].wait()
    await workers.start(slots=20, per_user=3)
    for job in jobs:
        assert (await end_of(queue, job.id))[-1].state == "succeeded"
    begun = Counter(line.split()[1] for line in lines(tmp_path, "busy") if line.startswith("+"))
    assert all(12 <= count <= 15 for count in begun.values()), "jobs that the dead worker had begun run once more"


async def test_the_limit_per_user_holds_when_many_jobs_start_at_once(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    jobs = [await queue.submit("busy", {}, key=f"k{n}", user="anna") for n in range(10)]
    await asyncio.gather(*(workers.start(slots=20, per_user=3) for _ in range(2)))
    for job in jobs:
        assert (await end_of(queue, job.id))[-1].state == "succeeded"
    running, most = 0, 0
    for line in lines(tmp_path, "busy"):
        running += int(line.split()[0])
        most = max(most, running)
    assert (running, most) == (0, 3)
