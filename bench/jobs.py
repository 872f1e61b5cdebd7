"""Measures the cost of jobs, for docs/performance.md: `python -m bench.jobs [--postgresql URL]`.

Measures the queue alone (submissions per second, time from submit to start, progress from a worker process to a watcher
in another one), and the whole suite (idle cost, a thousand WebSockets on one gateway).
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from services.common import audio
from services.common.config import LogSettings
from services.common.jobs.context import JobContext
from services.common.jobs.queue import JobQueue
from services.common.jobs.states import FINISHED_JSON_NAMES
from services.common.observe.telemetry import configure_logging
from services.common.rpc.server import stop_signal
from songs.small_songs import RATE, music
from tests.suite.client import Client
from tests.suite.running import PASSWORD, SERVICES, Suite

SERVICE = "bench-jobs"
SUBMISSIONS = 500
STARTS = 30
TICKS = 200
WATCHERS = 1000
IDLE_SECONDS = 20.0


async def tick(job: JobContext) -> dict[str, Any]:
    """Reports the time repeatedly."""

    async def work() -> dict[str, Any]:
        for number in range(job.payload.get("ticks", 1)):
            job.report("ticking", number / TICKS, sent=time.time())
            await asyncio.sleep(0.11)
        return {}

    job.report("started", 0.0, sent=time.time())
    return await job.step("work", work)


async def work(url: str) -> None:
    """The worker process."""
    queue = JobQueue(url, SERVICE, handlers={"tick": tick}, slots=1)
    await queue.start()
    await stop_signal()
    await queue.close()


async def measure_queue(url: str) -> None:
    """Submissions, starts and progress between two processes."""
    queue = JobQueue(url, SERVICE)
    await queue.start()
    began = time.perf_counter()
    jobs = [await queue.submit("tick", {}, key=f"s{number}", user=f"u{number % 9}") for number in range(SUBMISSIONS)]
    print(f"submissions per second, one after another: {SUBMISSIONS / (time.perf_counter() - began):.0f}")
    for job in jobs:
        await queue.cancel(job.id)
    worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.jobs", "--work", url)
    await asyncio.sleep(3)
    waits = []
    for number in range(STARTS):
        submitted = time.time()
        job = await queue.submit("tick", {}, key=f"w{number}", user="u")
        async for record in queue.watch(job.id):
            if "sent" in record.detail:
                waits.append(record.detail["sent"] - submitted)
                break
        await asyncio.sleep(0.25)
    print(f"submit to start on an idle worker: {_spread(waits)}")
    delays = []
    job = await queue.submit("tick", {"ticks": TICKS}, key="t", user="u")
    seen = 0.0
    async for record in queue.watch(job.id):
        if record.stage == "ticking" and record.detail["sent"] != seen:
            seen = record.detail["sent"]
            delays.append(time.time() - seen)
    print(f"progress, worker process to watcher process: {_spread(delays)}")
    worker.terminate()
    await worker.wait()
    await queue.close()


async def measure_suite() -> None:
    """Idle cost, and many WebSockets."""
    folder = Path(tempfile.mkdtemp(prefix="stemtube-bench-"))
    suite = Suite(folder)
    names = (*SERVICES, "gateway")
    await asyncio.to_thread(suite.start, "auth", "separation", "analysis", "download", "gateway")
    try:
        await asyncio.sleep(5)
        before = sum(_cpu_seconds(suite.processes[name].pid) for name in names)
        await asyncio.sleep(IDLE_SECONDS)
        used = sum(_cpu_seconds(suite.processes[name].pid) for name in names) - before
        sizes = {name: _megabytes(suite.processes[name].pid) for name in names}
        each = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
        print(f"idle suite: {100 * used / IDLE_SECONDS:.1f} % of one core, {sum(sizes.values()):.0f} MB ({each})")
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            await _measure_progress(suite, client, folder)
            await _measure_watchers(suite, client.headers)
    finally:
        await asyncio.to_thread(suite.stop)


async def _measure_progress(suite: Suite, client: Client, folder: Path) -> None:
    """From the moment a worker's progress is in its queue's table to its arrival on a WebSocket of the gateway."""
    song = folder / "song.flac"
    audio.encode(music(95), RATE, song, "flac", bits=16)
    written: dict[float, float] = {}
    arrived: dict[float, float] = {}

    async def read_table() -> None:
        with sqlite3.connect(f"{suite.data}/databases/separation.sqlite") as connection:
            while True:
                for fraction, moment in connection.execute("SELECT fraction, changed_at FROM job"):
                    written.setdefault(fraction, moment)
                await asyncio.sleep(0.02)

    added = await client.uploaded(song, {"separations": [{"quality": "QUALITY_BEST"}]})
    reading = asyncio.create_task(read_table())
    async with client.watch(added["job"]["job"]["id"]) as socket:
        async for message in socket:
            job = json.loads(message.data)["job"]
            part = next(part for part in job["parts"] if part["name"] == "separation")
            arrived.setdefault(part["progress"], time.time())
            if job["job"]["state"] in FINISHED_JSON_NAMES:
                break
    reading.cancel()
    delays = [arrived[fraction] - written[fraction] for fraction in arrived if 0 < fraction < 1 and fraction in written]
    print(f"progress, worker's table to a browser's WebSocket: {_spread(delays)}")


async def _measure_watchers(suite: Suite, headers: dict[str, str]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(suite.url, connector=connector) as session:
        before = {name: _megabytes(suite.processes[name].pid) for name in ("gateway", "download")}
        began = time.perf_counter()
        sockets = []
        for _ in range(WATCHERS):
            socket = await session.ws_connect("/api/v1/events", headers=headers)
            await socket.receive()
            sockets.append(socket)
        seconds = time.perf_counter() - began
        grown = {name: _megabytes(suite.processes[name].pid) - size for name, size in before.items()}
        idle = _cpu_seconds(suite.processes["gateway"].pid), _cpu_seconds(suite.processes["download"].pid)
        await asyncio.sleep(5)
        cpu = _cpu_seconds(suite.processes["gateway"].pid) + _cpu_seconds(suite.processes["download"].pid) - sum(idle)
        print(
            f"{WATCHERS} WebSockets: opened in {seconds:.1f} s, gateway +{grown['gateway']:.0f} MB, "
            f"download +{grown['download']:.0f} MB, {100 * cpu / 5:.0f} % of one core while quiet"
        )
        for socket in sockets:
            await socket.close()


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
    return f"median {1000 * statistics.median(ordered):.0f} ms, p99 {1000 * p99:.0f} ms ({len(ordered)})"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", default="", help="measure the queue on this database too")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logging(LogSettings(level="warning"), SERVICE)
    if arguments.work:
        await work(arguments.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        print("queue on SQLite")
        await measure_queue(f"sqlite:///{folder}/jobs.sqlite")
    if arguments.postgresql:
        print("queue on PostgreSQL")
        await measure_queue(arguments.postgresql)
    await measure_suite()


if __name__ == "__main__":
    asyncio.run(main())
