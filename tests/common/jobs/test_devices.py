"""Jobs whose device fails return to the queue several times, and are left to workers that may have a better one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from services.common.errors import DeviceError, DeviceNotReadyError, NoMemoryError
from services.common.jobs.context import JobContext
from services.common.jobs.leases import LeaseStore
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.jobs.retry import RetryPolicy
from tests.common.postgres import create_database


class Device:
    """A handler whose device raises the errors that a test sets."""

    def __init__(self) -> None:
        self.errors: list[DeviceError] = []
        self.tried: list[str] = []
        self.in_step = True

    async def handle(self, job: JobContext) -> dict[str, Any]:
        async def compute() -> dict[str, Any]:
            self.tried.append(job.key)
            if self.errors:
                raise self.errors.pop(0)
            return {}

        return await job.step("compute", compute) if self.in_step else await compute()


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
async def queue(request: pytest.FixtureRequest, tmp_path: Path, device: Device) -> AsyncIterator[JobQueue]:
    url = create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/jobs.sqlite"
    queue = JobQueue(url, "devices-test", handlers={"song": device.handle}, slots=1)
    await queue.start()
    yield queue
    await queue.close()


async def submit(queue: JobQueue, song: str) -> str:
    return (await queue.submit("song", {}, key=song, user="anna")).id


async def end_of(queue: JobQueue, job_id: str) -> JobRecord:
    async with asyncio.timeout(60):
        return [record async for record in queue.watch(job_id)][-1]


@pytest.mark.parametrize("in_step", [True, False])
async def test_a_device_error_returns_the_job_to_the_queue(in_step: bool, queue: JobQueue, device: Device) -> None:
    device.in_step = in_step
    device.errors = [DeviceError("The device failed."), NoMemoryError("Not enough memory.")]
    end = await end_of(queue, await submit(queue, "song"))
    assert (end.state, end.attempts, end.device_faults) == ("succeeded", 3, 2)


@pytest.mark.parametrize("error", [DeviceError("The device failed."), NoMemoryError("Not enough memory.")])
async def test_a_job_fails_after_too_many_device_errors(error: DeviceError, queue: JobQueue, device: Device) -> None:
    device.errors = [error] * RetryPolicy().device_faults
    with structlog.testing.capture_logs() as lines:
        end = await end_of(queue, await submit(queue, "song"))
        async with asyncio.timeout(30):
            while not (told := [line for line in lines if line["event"] == "job failed"]):
                await asyncio.sleep(0.02)
    assert end.state == "failed"
    assert (end.error or {})["reason"] == error.reason
    # As an error: `stemtube status` shows it.
    assert [(line["log_level"], line["reason"]) for line in told] == [("error", error.reason)]
    assert len(device.tried) == RetryPolicy().device_faults
    assert (await end_of(queue, await submit(queue, "another"))).state == "succeeded"


async def test_a_job_that_was_not_begun_is_not_counted(queue: JobQueue, device: Device) -> None:
    device.errors = [DeviceNotReadyError("There is none.")] * (2 * RetryPolicy().device_faults)
    end = await end_of(queue, await submit(queue, "song"))
    assert (end.state, end.attempts, end.device_faults) == ("succeeded", 1, 0)


async def test_no_job_is_taken_while_the_limit_is_zero(queue: JobQueue, device: Device) -> None:
    queue.limit(0)
    await asyncio.sleep(0.5)
    job_id = await submit(queue, "song")
    await asyncio.sleep(1.5)
    record = await queue.get(job_id)
    assert (record.state, record.version) == ("queued", 1)
    assert not device.tried
    queue.limit(1)
    assert (await end_of(queue, job_id)).state == "succeeded"


async def test_a_job_is_left_to_other_busy_workers_after_a_device_error(
    queue: JobQueue, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their devices may succeed. The failing device would otherwise take the job again and again until it fails."""
    others = [True]
    monkeypatch.setattr(LeaseStore, "are_others_busy", lambda *_: others[0])
    device.errors = [DeviceError("The device failed.")]
    job_id = await submit(queue, "song")
    async with asyncio.timeout(30):
        while (await queue.get(job_id)).device_faults == 0:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.5)
    assert ((await queue.get(job_id)).state, device.tried) == ("queued", ["song"])
    others[0] = False
    assert (await end_of(queue, job_id)).state == "succeeded"


async def test_other_workers_count_as_busy_while_they_renew_a_lease(queue: JobQueue, tmp_path: Path) -> None:
    store = queue._leases
    queue.limit(0)
    await asyncio.sleep(0.5)
    job_id = await submit(queue, "song")
    assert not store.are_others_busy([], 10)
    assert store.claim("lease")
    assert store.are_others_busy([], 10)
    assert not store.are_others_busy([job_id], 10)
    assert not store.are_others_busy([], -10)
    store.finish(job_id, "lease", "cancelled", None, None)
