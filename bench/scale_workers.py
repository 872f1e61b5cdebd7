"""Measures the cost of the queue for 1 to 8 worker processes of separation, with PostgreSQL and an S3 server.

The worker processes are real (queue, leases, child process, object store), but the work in the child is simulated here:
it reads the mix, sleeps for a fixed time and stores two small stems.
"""

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil
import psycopg

from services.common.compute.engine import Report
from services.common.config import load
from services.common.jobs.queue import JobQueue
from services.common.process import run
from services.common.rpc.draining import Draining
from services.common.rpc.runtime import VerifiedCallers, run_with_jobs
from services.common.storage.objects import open_store
from services.separation.config import SeparationSettings
from services.separation.service import KIND
from services.separation.worker import SeparationWorker
from tests.common.postgres import create_database
from tests.suite.running import free_ports

WORKERS = (1, 2, 4, 8)
SERVICE_SECONDS = 2.0
JOBS_PER_WORKER = 10
IDLE_SECONDS = 15.0
MIX_BYTES = 1_000_000
STEMS = ("vocals", "accompaniment")


class SimulatedWork:
    """Simulates a model: takes `SERVICE_SECONDS` without computing."""

    def __init__(self, settings: SeparationSettings) -> None:
        self._objects = open_store(settings)

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Reads the mix, sleeps, and stores two small objects as stems."""
        began = time.monotonic()
        with self._objects.open(task["audio_key"]) as mix:
            content = mix.read()
        while (left := SERVICE_SECONDS - (time.monotonic() - began)) > 0:
            report("separating", 1 - left / SERVICE_SECONDS)
            time.sleep(min(left, 0.1))
        stems = []
        for name in STEMS:
            key = f"{task['prefix']}/{name}.flac"
            asyncio.run(self._objects.put(key, content[: MIX_BYTES // 2], "audio/flac"))
            stems.append({"name": name, "audio_key": key, "duration_seconds": 1.0})
        return {"stems": stems, "made_by": task["made_by"]}


async def work(settings: SeparationSettings) -> None:
    """Runs a worker process like `services.separation work`."""
    section = settings.separation
    worker = SeparationWorker(settings, open_store(settings), SimulatedWork)
    jobs = JobQueue(settings.database_url, "separation", handlers={KIND: worker.handle}, slots=worker.slots)
    await run_with_jobs(
        VerifiedCallers(settings, "separation"),
        jobs,
        worker,
        None,
        listen=section.listen,
        health_listen=section.health_listen,
        draining=Draining(),
        grace_seconds=section.grace_seconds,
        engines=worker.engines,
    )


@dataclass(frozen=True)
class Cost:
    """The figures for one number of workers.

    Args:
        workers: number of processes.
        jobs_per_second: while there is a backlog.
        waits: seconds from submission to start of jobs that come one by one, at half of the workers' capacity.
        worker_seconds: time of a worker per job of the backlog, minus the service time.
        job_seconds: time from start to end of a job of the backlog, minus the service time.
        worker_cpu: CPU seconds of the workers per job, without their children.
        database_cpu: CPU seconds of the database per job.
        idle_cpu: CPU seconds of the database per second and idle worker.
        connections: to the database, per worker.
    """

    workers: int
    jobs_per_second: float
    waits: list[float]
    worker_seconds: float
    job_seconds: float
    worker_cpu: float
    database_cpu: float
    idle_cpu: float
    connections: float = 0.0


@contextlib.contextmanager
def place() -> Iterator[dict[str, str]]:
    """Starts PostgreSQL and an S3 server, and gives the settings for them."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="stemtube-scale-") as folder:
        server = subprocess.Popen([sys.executable, "-m", "bench.scale_s3", str(port)], env=_environment({}))
        try:
            _await_listening(port)
            yield {
                "DATA_DIR": folder,
                "OFFLINE": "true",
                "LOG__LEVEL": "warning",
                "SEPARATION__DATABASE_URL": create_database(),
                "STORAGE__URL": "s3://bench",
                "STORAGE__ENDPOINT": f"http://127.0.0.1:{port}",
                "STORAGE__ACCESS_KEY": "key",
                "STORAGE__SECRET_KEY": "secret",
            }
        finally:
            server.terminate()
            server.wait()


def _await_listening(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError("the S3 server does not listen")


def _environment(settings: dict[str, str]) -> dict[str, str]:
    named = {f"STEMTUBE_{name}": value for name, value in settings.items()}
    return {**os.environ, **named, "PYTHONPATH": ".:protos/gen"}


async def measure(count: int) -> Cost:
    """Runs `count` workers with a new database and store."""
    with place() as settings:
        os.environ.update(_environment(settings))
        loaded = load(SeparationSettings)
        await open_store(loaded).put("originals/mix", bytes(MIX_BYTES), "audio/flac")
        queue = JobQueue(loaded.database_url, "separation")
        await queue.start()
        own = _connections(loaded.database_url)
        processes = [_start_worker(settings) for _ in range(count)]
        try:
            cost = await _measure(count, queue, processes, loaded.database_url)
            return replace(cost, connections=(_connections(loaded.database_url) - own) / count)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            await queue.close()


def _start_worker(settings: dict[str, str]) -> subprocess.Popen[bytes]:
    (port,) = free_ports(1)
    own = settings | {"SEPARATION__HEALTH_LISTEN": f"127.0.0.1:{port}"}
    return subprocess.Popen([sys.executable, "-m", "bench.scale_workers"], env=_environment(own))


async def _measure(count: int, queue: JobQueue, processes: list[subprocess.Popen[bytes]], database_url: str) -> Cost:
    database, workers = _postmaster(database_url), [psutil.Process(process.pid) for process in processes]
    await _run_jobs(queue, 4 * count, 0.0)  # all children have started, connections are open
    idle = await _cpu_of_idleness(database)
    worker_cpu, database_cpu, began = sum(map(_cpu, workers)), _cpu(database), time.monotonic()
    number = JOBS_PER_WORKER * count
    backlog = await _run_jobs(queue, number, 0.0)
    seconds = time.monotonic() - began
    used = sum(map(_cpu, workers)) - worker_cpu, _cpu(database) - database_cpu
    single = await _run_jobs(queue, number, 2 * SERVICE_SECONDS / count)
    return Cost(
        workers=count,
        jobs_per_second=number / seconds,
        waits=[job.started_at - job.created_at for job in single],
        worker_seconds=seconds * count / number - SERVICE_SECONDS,
        job_seconds=statistics.fmean(job.ended_at - job.started_at for job in backlog) - SERVICE_SECONDS,
        worker_cpu=used[0] / number,
        database_cpu=used[1] / number,
        idle_cpu=idle / count,
    )


async def _run_jobs(queue: JobQueue, number: int, every_seconds: float) -> list[Any]:
    """Submits jobs of nine users, one at a time or all at once, and waits for their ends."""
    submitted = []
    for index in range(number):
        made_by = {"model": "simulated"}
        payload = {"audio_key": "originals/mix", "auto": False, "made_by": made_by, "stems": list(STEMS)}
        submitted.append(await queue.submit(KIND, payload, key=uuid.uuid4().hex, user=f"user-{index % 9}"))
        await asyncio.sleep(every_seconds)
    ended = [await _end_of(queue, job.id) for job in submitted]
    if failed := [job.error for job in ended if job.state != "succeeded"]:
        raise RuntimeError(f"jobs failed: {failed[0]}")
    return ended


async def _end_of(queue: JobQueue, job_id: str) -> Any:
    async for record in queue.watch(job_id):
        last = record
    return last


async def _cpu_of_idleness(database: psutil.Process) -> float:
    await asyncio.sleep(2.0)
    before, began = _cpu(database), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    return (_cpu(database) - before) / (time.monotonic() - began)


def _postmaster(database_url: str) -> psutil.Process:
    """The server of a database on this machine: the parent of each connection's process."""
    with psycopg.connect(database_url) as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        parent = psutil.Process(pid).parent()
    assert parent is not None
    return parent


def _connections(database_url: str) -> int:
    """The number of open connections to a database, without this one."""
    with psycopg.connect(database_url) as connection:
        query = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
        (count,) = connection.execute(query).fetchone() or (0,)
        return int(count)


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process; for a postmaster with its children, including ended ones."""
    times = process.cpu_times()
    own = times.user + times.system
    if process.name() != "postgres":
        return float(own)
    alive = [child.cpu_times() for child in process.children()]
    return float(own + times.children_user + times.children_system + sum(each.user + each.system for each in alive))


def table(counts: tuple[int, ...] = WORKERS) -> list[str]:
    """Lines of Markdown: a row for each number of workers."""
    lines = [
        "| workers | jobs a second | of the ideal | wait at half load, p50 | p95 | time outside of the model"
        " | of this within the job | CPU of the worker | CPU of PostgreSQL | of PostgreSQL, for an idle worker"
        " | connections |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for count in counts:
        lines.append(_row(asyncio.run(measure(count))))
        print(lines[-1], flush=True)
    return lines


def _row(cost: Cost) -> str:
    waits = statistics.quantiles(cost.waits, n=20, method="inclusive")
    seconds = (waits[9], waits[18], cost.worker_seconds, cost.job_seconds, cost.worker_cpu, cost.database_cpu)
    possible = cost.jobs_per_second * SERVICE_SECONDS / cost.workers
    return (
        f"| {cost.workers} | {cost.jobs_per_second:.2f} | {possible:.0%} | "
        + " | ".join(f"{1000 * each:.0f} ms" for each in seconds)
        + f" | {1000 * cost.idle_cpu:.1f} ms a second | {cost.connections:.1f} |"
    )


if __name__ == "__main__":
    run("bench.scale_workers", "A worker with simulated work, for the bench.", SeparationSettings, {"work": work})
