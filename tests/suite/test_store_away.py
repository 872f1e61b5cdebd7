"""Real workers that start while their store is away say what is wrong, wait, and go on by themselves."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from services.common.storage.marked_store import MARKER
from tests.suite.running import ROOT, free_ports


@contextlib.asynccontextmanager
async def worker(service: str, data: Path) -> AsyncIterator[str]:
    """A running worker; the URL of its readiness."""
    (port,) = free_ports(1)
    settings = {
        "DATA_DIR": str(data),
        "OFFLINE": "true",
        "ANALYSIS__PREPARE": "false",
        f"{service.upper()}__DEVICE": "cpu",
        f"{service.upper()}__HEALTH_LISTEN": f"127.0.0.1:{port}",
    }
    environment = {**os.environ, **{f"STEMTUBE_{name}": value for name, value in settings.items()}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"services.{service}",
        "work",
        cwd=ROOT,
        env={**environment, "PYTHONPATH": "protos/gen"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/readyz"
        assert process.returncode is None
    finally:
        process.terminate()
        await process.wait()


async def until_answer(url: str, status: int, text: str) -> None:
    """Waits until /readyz answers with this status and text."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(120):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == status and text in await answer.text():
                        return
            await asyncio.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize("service", ["separation", "analysis"])
async def test_a_worker_starts_while_its_store_is_away(service: str, tmp_path: Path) -> None:
    """It must neither end, nor take jobs and fail them."""
    objects = tmp_path / "objects"
    objects.touch()
    async with worker(service, tmp_path) as url:
        await until_answer(url, 503, "STORAGE_UNAVAILABLE")
        objects.unlink()
        objects.mkdir()
        await until_answer(url, 503, "STORE_AWAY")
        (objects / MARKER).write_text("1")
        await until_answer(url, 200, "ready")
