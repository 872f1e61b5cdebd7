"""Real workers with DEVICE=cuda on a machine without a GPU take no songs, say why, and leave them to others."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch

from services.common.config import Settings
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from songs.small_songs import music
from tests.analysis.work import choice
from tests.common.audio_files import with_soundfile
from tests.suite.running import ROOT, free_ports

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
SONG = "originals/song"
TASKS: dict[str, dict[str, Any]] = {
    "separation": {
        "audio_key": SONG,
        "auto": False,
        "made_by": {"backend": "spleeter", "model": "spleeter_2stems", "version": "1", "substitution": ""},
        "stems": ["vocals", "accompaniment"],
        "shifts": 0,
        "overlap": 0.25,
        "rest": "sum",
    },
    "analysis": {"audio_key": SONG, "parts": [choice("key", "librosa")]},
}
Start = Callable[[str, str], Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a worker of a service on a device; returns the URL of its health."""
    running: list[asyncio.subprocess.Process] = []

    async def start(service: str, device: str) -> str:
        (port,) = free_ports(1)
        settings = {
            "DATA_DIR": tmp_path,
            "OFFLINE": "true",
            "ANALYSIS__PREPARE": "false",
            f"{service.upper()}__DEVICE": device,
            f"{service.upper()}__HEALTH_LISTEN": f"127.0.0.1:{port}",
        }
        environment = {**os.environ, **{f"STEMTUBE_{name}": str(value) for name, value in settings.items()}}
        running.append(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"services.{service}",
                "work",
                cwd=ROOT,
                env={**environment, "PYTHONPATH": "protos/gen"},
                stderr=asyncio.subprocess.DEVNULL,
            )
        )
        return f"http://127.0.0.1:{port}/readyz"

    yield start
    for worker in running:
        worker.terminate()
    for worker in running:
        await asyncio.wait_for(worker.wait(), 30)


async def until_ready_says(url: str, text: str) -> None:
    answer = ""
    async with asyncio.timeout(120), aiohttp.ClientSession() as session:
        while text not in answer:
            try:
                async with session.get(url) as response:
                    answer = f"{response.status} {await response.text()}"
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize("service", TASKS)
async def test_a_worker_without_its_gpu_takes_no_song_and_another_does_it(
    service: str, start: Start, tmp_path: Path
) -> None:
    song = with_soundfile(tmp_path / "song.flac", music(3, seed=5))
    store = open_store(Settings(data_dir=tmp_path))
    await store.put(MARKER, b"1")
    await store.put(SONG, song)
    (tmp_path / "databases").mkdir()
    queue = JobQueue(f"sqlite:///{tmp_path}/databases/{service}.sqlite", service)
    await queue.start()
    try:
        without = await start(service, "cuda")
        await until_ready_says(without, "503 not ready: no jobs are taken: The device cuda cannot be used: ")
        jobs = [
            await queue.submit(service, TASKS[service], key=f"song-{number}", user=f"user-{number}")
            for number in range(3)
        ]
        await asyncio.sleep(1.5)  # the worker polls its queue several times
        assert [(await queue.get(job.id)).attempts for job in jobs] == [0, 0, 0]
        await until_ready_says(await start(service, "cpu"), "200 ready")
        ends = [await _end_of(queue, job.id) for job in jobs]
        assert [(end.state, end.attempts, end.error) for end in ends] == [("succeeded", 1, None)] * 3
        await until_ready_says(without, "503 not ready: ")
    finally:
        await queue.close()


async def _end_of(queue: JobQueue, job_id: str) -> JobRecord:
    async with asyncio.timeout(180):
        return [record async for record in queue.watch(job_id)][-1]
