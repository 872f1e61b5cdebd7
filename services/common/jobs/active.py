"""The jobs that this process runs."""

import asyncio
from collections.abc import Iterator
from typing import Any

from services.common.jobs.context import JobContext


class ActiveJobs:
    """Attempts in hand, by the id of their job, with the tasks that make them."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[JobContext, asyncio.Task[Any]]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[JobContext]:
        return iter([context for context, _ in self._jobs.values()])

    def add(self, context: JobContext, task: asyncio.Task[Any]) -> None:
        """Notes an attempt and the task that makes it."""
        self._jobs[context.job_id] = (context, task)

    def get(self, job_id: str) -> JobContext | None:
        """The attempt at a job."""
        found = self._jobs.get(job_id)
        return found[0] if found else None

    def remove(self, context: JobContext) -> None:
        """Forgets an attempt that has ended, unless another one at the same job has begun."""
        if self.get(context.job_id) is context:
            del self._jobs[context.job_id]

    def stop(self, job_id: str, lease: str = "") -> bool:
        """Cancels the attempt at a job, only that with `lease` if given; whether there is one."""
        found = self._jobs.get(job_id)
        if found is None or (lease and found[0].lease != lease):
            return False
        context, task = found
        context.stop()
        task.cancel()
        return True

    async def wait(self, seconds: float) -> None:
        """Returns when all attempts have ended, or after so many seconds."""
        if self._jobs and seconds:
            await asyncio.wait([task for _, task in self._jobs.values()], timeout=seconds)
