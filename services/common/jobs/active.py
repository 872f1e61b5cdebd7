"""The jobs that this process runs."""

import asyncio
from collections.abc import Iterator
from typing import Any

from services.common.jobs.context import JobContext


class ActiveJobs:
    """Running attempts and their asyncio tasks, by the id of their job."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[JobContext, asyncio.Task[Any]]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[JobContext]:
        return iter([context for context, _ in self._jobs.values()])

    def add(self, context: JobContext, task: asyncio.Task[Any]) -> None:
        """Adds an attempt and its task."""
        self._jobs[context.job_id] = (context, task)

    def get(self, job_id: str) -> JobContext | None:
        """The running attempt at a job, if any."""
        found = self._jobs.get(job_id)
        return found[0] if found else None

    def remove(self, context: JobContext) -> None:
        """Removes an attempt that has ended, unless another one at the same job has begun."""
        if self.get(context.job_id) is context:
            del self._jobs[context.job_id]

    def stop(self, job_id: str, lease: str = "") -> bool:
        """Cancels the attempt at a job, if it has this lease (any, if empty); returns whether it did."""
        found = self._jobs.get(job_id)
        if found is None or (lease and found[0].lease != lease):
            return False
        context, task = found
        context.stop()
        task.cancel()
        return True

    async def wait(self, seconds: float) -> None:
        """Waits until all attempts have ended, at most `seconds`."""
        if self._jobs and seconds:
            await asyncio.wait([task for _, task in self._jobs.values()], timeout=seconds)
