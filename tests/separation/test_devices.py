"""Separation workers whose device fails at the start, once, or for good: how the songs of the queue end."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.jobs.retry import RetryPolicy
from services.separation.service import KIND
from tests.suite.running import free_ports

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


class Workers:
    """Worker processes on one queue; see `device_worker`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[asyncio.subprocess.Process] = []
        self._ports: dict[str, int] = {}

    def breaks(self, device: str, how: str) -> Path:
        path = self._folder / f"{device}.{how}"
        path.touch()
        return path

    async def start(self, device: str) -> None:
        (self._ports[device],) = free_ports(1)
        settings = {
            "DATA_DIR": self._folder,
            "SEPARATION__DEVICE": device,
            "SEPARATION__HEALTH_LISTEN": f"127.0.0.1:{self._ports[device]}",
        }
        environment = {**os.environ, **{f"STEMTUBE_{name}": str(value) for name, value in settings.items()}}
        with (self._folder / f"{device}.log").open("wb") as log:
            worker = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.separation.device_worker",
                device,
                cwd=ROOT,
                env={**environment, "PYTHONPATH": "protos/gen"},
                stdout=log,
                stderr=log,
            )
        self._running.append(worker)

    async def until_ready_says(self, device: str, text: str) -> None:
        """Waits until /readyz says so."""
        answer = ""
        try:
            async with asyncio.timeout(START_SECONDS):
                while text not in answer:
                    answer = await self._readiness(device)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{answer!r}; {(self._folder / f'{device}.log').read_text()[-2000:]}") from None

    async def _readiness(self, device: str) -> str:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self._ports[device]}/readyz") as answer,
            ):
                return f"{answer.status} {await answer.text()}"
        except aiohttp.ClientError:
            return ""

    async def end(self) -> None:
        for worker in self._running:
            worker.terminate()
        for worker in self._running:
            await asyncio.wait_for(worker.wait(), 30)


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    await workers.end()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[JobQueue]:
    (tmp_path / "databases").mkdir()
    queue = JobQueue(f"sqlite:///{tmp_path}/databases/separation.sqlite", "separation")
    await queue.start()
    yield queue
    await queue.close()


async def submit(queue: JobQueue, *songs: str) -> list[str]:
    payload = {"made_by": {"model": "test"}, "auto": False}
    records = [
        await queue.submit(KIND, {**payload, "audio_key": song}, key=song, user=f"user-{number % 3}")
        for number, song in enumerate(songs)
    ]
    return [record.id for record in records]


async def end_of(queue: JobQueue, job_id: str) -> JobRecord:
    async with asyncio.timeout(120):
        return [record async for record in queue.watch(job_id)][-1]


def done(folder: Path) -> list[tuple[str, ...]]:
    path = folder / "done"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


SONGS = tuple(f"song-{number}" for number in range(6))


async def test_a_worker_without_its_device_says_why_and_takes_no_songs(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    driver = workers.breaks("left", "gone")
    await workers.start("left")
    await workers.until_ready_says("left", "503 not ready: no jobs are taken: ")
    await workers.until_ready_says("left", "no CUDA-capable device is detected")
    ids = await submit(queue, *SONGS[:3])
    await asyncio.sleep(1.5)  # the worker polls its queue several times
    assert [(await queue.get(job_id)).state for job_id in ids] == ["queued"] * 3
    await workers.start("right")
    ends = [await end_of(queue, job_id) for job_id in ids]
    assert [(end.state, end.attempts, end.device_faults) for end in ends] == [("succeeded", 1, 0)] * 3
    assert {device for device, _ in done(tmp_path)} == {"right"}
    driver.unlink()
    await workers.until_ready_says("left", "200 ready")


@pytest.mark.long
async def test_a_device_that_fails_once_costs_an_attempt_but_no_song(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    workers.breaks("left", "once")
    await workers.start("left")
    await workers.until_ready_says("left", "200 ready")
    (job_id,) = await submit(queue, "song")
    end = await end_of(queue, job_id)
    assert (end.state, end.attempts, end.device_faults) == ("succeeded", 2, 1)
    assert done(tmp_path) == [("left", "song")]


@pytest.mark.long
async def test_a_device_that_fails_for_good_fails_no_song_if_another_worker_is_there(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    workers.breaks("left", "broken")
    for device in ("left", "right"):
        await workers.start(device)
        await workers.until_ready_says(device, "200 ready")
    ids = await submit(queue, *SONGS)
    ends = [await end_of(queue, job_id) for job_id in ids]
    assert [end.state for end in ends] == ["succeeded"] * len(SONGS), [end.error for end in ends]
    assert sorted(done(tmp_path)) == [("right", song) for song in SONGS]
    assert sum(end.device_faults for end in ends) > 0, "the broken worker had none of them"


@pytest.mark.long
async def test_a_song_that_does_not_fit_fails_at_last_and_the_others_do_not(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    workers.breaks("left", "small")
    await workers.start("left")
    long, short = await submit(queue, "long-song", "short-song")
    end = await end_of(queue, long)
    assert end.state == "failed"
    assert end.device_faults == RetryPolicy().device_faults - 1
    assert end.error
    assert (end.error["reason"], end.error["retryable"]) == ("OUT_OF_MEMORY", False)
    assert (await end_of(queue, short)).state == "succeeded"
    assert done(tmp_path) == [("left", "short-song")]


@pytest.mark.long
async def test_the_only_device_fails_for_good_and_its_song_says_so(queue: JobQueue, workers: Workers) -> None:
    workers.breaks("left", "broken")
    await workers.start("left")
    (job_id,) = await submit(queue, "song")
    end = await end_of(queue, job_id)
    assert end.error
    assert (end.error["reason"], end.error["retryable"]) == ("DEVICE_FAILED", True)
    assert "illegal memory access" in end.error["message"]


@pytest.mark.long
async def test_a_worker_with_one_dead_device_of_two_uses_the_other(
    queue: JobQueue, workers: Workers, tmp_path: Path
) -> None:
    driver = workers.breaks("a", "gone")
    await workers.start("a,b")
    await workers.until_ready_says("a,b", "200 ready")
    for job_id in await submit(queue, *SONGS[:3]):
        assert (await end_of(queue, job_id)).state == "succeeded"
    assert {device for device, _ in done(tmp_path)} == {"b"}
    driver.unlink()
    async with asyncio.timeout(60):
        number = 0
        while "a" not in {device for device, _ in done(tmp_path)}:
            number += 2
            ids = await submit(queue, f"pair-{number}", f"pair-{number + 1}")
            assert [(await end_of(queue, job_id)).state for job_id in ids] == ["succeeded"] * 2
