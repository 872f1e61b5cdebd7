"""Jobs while the wall clock is set back and forth: leases do not depend on it."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.common.jobs.queue import JobQueue
from tests.chaos import clock as clocks
from tests.chaos.clock import Clock
from tests.common.jobs.test_processes import Workers, end_of, lines, until
from tests.common.jobs.worker_process import SERVICE

pytestmark = pytest.mark.skipif(bool(clocks.why_not()), reason=clocks.why_not())
HOUR = 3600.0


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    with Clock(tmp_path) as clock:
        for name, value in clock.environment.items():
            monkeypatch.setenv(name, value)
        yield clock


@pytest.fixture
async def workers(clock: Clock, tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(f"sqlite:///{tmp_path / 'jobs.sqlite'}", tmp_path)
    yield workers
    await workers.end()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[JobQueue]:
    queue = JobQueue(f"sqlite:///{tmp_path / 'jobs.sqlite'}", SERVICE)
    await queue.start()
    yield queue
    await queue.close()


def test_the_clock_is_set_for_the_whole_process(clock: Clock) -> None:
    import subprocess
    import sys

    program = (
        "import time, sqlite3; print(time.time(), *sqlite3.connect('').execute(\"select unixepoch('now')\").fetchone())"
    )
    clock.set(-HOUR)
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [float(seconds) - time.time() for seconds in told] == pytest.approx([-HOUR] * 2, abs=60)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_a_running_job_stays_with_its_worker_when_the_clock_is_set(
    seconds: float, queue: JobQueue, workers: Workers, clock: Clock, tmp_path: Path
) -> None:
    for _ in range(2):
        await workers.start()
    job = await queue.submit("count", {"seconds": 6}, key="k", user="anna")
    await until(lambda: lines(tmp_path, "started"))
    clock.set(seconds)
    end = (await end_of(queue, job.id))[-1]
    assert (end.state, end.attempts, end.deaths) == ("succeeded", 1, 0)
    assert len(lines(tmp_path, "second")) == 1


async def test_a_dead_workers_job_is_taken_over_when_the_clock_goes_back(
    queue: JobQueue, workers: Workers, clock: Clock, tmp_path: Path
) -> None:
    """It once was only taken over when the new clock reached the old time, an hour later."""
    worker = await workers.start()
    job = await queue.submit("count", {"seconds": 3}, key="k", user="anna")
    await until(lambda: lines(tmp_path, "started"))
    clock.set(-HOUR)
    worker.kill()
    await worker.wait()
    await workers.start()
    assert (await end_of(queue, job.id))[-1].state == "succeeded"


async def test_the_next_attempt_is_on_time_when_the_clock_goes_back(
    queue: JobQueue, workers: Workers, clock: Clock, tmp_path: Path
) -> None:
    """It once waited until the new clock reached the old time, for up to 15 minutes."""
    await workers.start()
    job = await queue.submit("flaky", {}, key="k", user="anna")
    await until(lambda: lines(tmp_path, "flaky"))
    clock.set(-600)
    assert (await end_of(queue, job.id))[-1].state == "succeeded"
