"""A worker process for tests: `python -m tests.common.jobs.worker_process DATABASE_URL FOLDER [SLOTS [PER_USER]]`.

Its handlers write a line to a file in FOLDER each time they do something, so that tests can count it.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from services.common.config import LogSettings
from services.common.errors import InvalidInputError, UnavailableError
from services.common.jobs.context import JobContext
from services.common.jobs.queue import JobQueue
from services.common.jobs.retry import RetryPolicy
from services.common.observe.telemetry import configure_logging
from services.common.rpc.server import stop_signal

SERVICE = "jobs-test"


class Handlers:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, name: str, text: str) -> None:
        with (self._folder / name).open("a") as file:
            file.write(text + "\n")

    async def count(self, job: JobContext) -> dict[str, Any]:
        """Two steps; the second takes `seconds`."""

        async def first() -> dict[str, Any]:
            self.note("first", job.job_id)
            return {"value": 1}

        async def second() -> dict[str, Any]:
            steps = round(job.payload.get("seconds", 0.5) / 0.05)
            self.note("started", f"{job.user} {job.job_id} {os.getpid()}")
            for number in range(steps):
                await asyncio.sleep(0.05)
                job.report("counting", (number + 1) / steps)
            self.note("second", job.job_id)
            return {"value": 2}

        one = await job.step("first", first)
        two = await job.step("second", second)
        return {"sum": one["value"] + two["value"]}

    async def crash(self, job: JobContext) -> dict[str, Any]:
        self.note("crash", job.job_id)
        await asyncio.sleep(0.3)
        os._exit(1)

    async def flaky(self, job: JobContext) -> dict[str, Any]:
        async def work() -> dict[str, Any]:
            self.note("flaky", job.job_id)
            if len((self._folder / "flaky").read_text().splitlines()) < 3:
                raise UnavailableError("The other side sleeps.")
            return {}

        return await job.step("work", work)

    async def busy(self, job: JobContext) -> dict[str, Any]:
        """Writes to one file when it begins and ends."""
        self.note("busy", f"+1 {job.user}")
        await asyncio.sleep(job.payload.get("seconds", 0.3))
        self.note("busy", f"-1 {job.user}")
        return {}

    async def unlucky(self, job: JobContext) -> dict[str, Any]:
        """Fails with a transient error each time."""
        self.note("unlucky", job.job_id)
        raise UnavailableError("The other side sleeps.")

    async def talk(self, job: JobContext) -> dict[str, Any]:
        job.report("talking", 0.5, said="first")
        await asyncio.sleep(0.25)
        job.report("talking", 1.0, said="last")
        return {}

    async def refuse(self, job: JobContext) -> dict[str, Any]:
        self.note("refuse", job.job_id)
        raise InvalidInputError("This is no audio.", "NOT_AUDIO")

    async def fail(self, job: JobContext) -> dict[str, Any]:
        raise RuntimeError("a fault of ours, with a secret in it")


def make_queue(
    url: str,
    folder: Path,
    slots: int,
    keep_seconds: float = 86400,
    per_user: int = 0,
    retry: RetryPolicy | None = None,
    needs: Callable[[], Awaitable[str]] | None = None,
) -> JobQueue:
    handlers = Handlers(folder)
    names = ("count", "crash", "flaky", "talk", "refuse", "fail", "busy", "unlucky")
    return JobQueue(
        url,
        SERVICE,
        handlers={name: getattr(handlers, name) for name in names},
        slots=slots,
        per_user=per_user,
        keep_seconds=keep_seconds,
        lease_seconds=4,
        maintenance_seconds=0.5,
        retry=retry,
        needs=needs,
    )


async def main() -> None:
    configure_logging(LogSettings(), f"worker-{os.getpid()}")
    url, folder, slots = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    per_user = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    retry = RetryPolicy(first_delay_seconds=float(os.environ.get("RETRY_SECONDS", "1")))
    queue = make_queue(url, folder, slots, per_user=per_user, retry=retry)
    await queue.start()
    (folder / f"ready-{os.getpid()}").touch()
    await stop_signal()
    await queue.close(grace_seconds=float(os.environ.get("GRACE_SECONDS", "0")))


if __name__ == "__main__":
    asyncio.run(main())
