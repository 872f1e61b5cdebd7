"""Maintenance: tasks that a service runs at its start and then periodically, such as removing old jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from services.common.errors import DataLossError, StemTubeError, UnavailableError
from services.common.jobs.requests import RequestStore
from services.common.jobs.store import JobStore
from services.common.jobs.threads import JobStoreThreads
from services.common.storage.database import outages

log = structlog.get_logger(__name__)

Task = Callable[[], Awaitable[Any]]


class Maintenance:
    """Runs maintenance tasks one after another; one that fails runs again the next time.

    Args:
        file: the SQLite file of the queue, if it has one.
        seconds: between two rounds.
        tasks: the tasks; more may be appended at any time.
    """

    def __init__(self, file: Path | None, seconds: float, *tasks: Task) -> None:
        self._file = file
        self._seconds = seconds
        self.tasks: list[Task] = list(tasks)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            for task in list(self.tasks):
                try:
                    with outages(self._file):
                        await task()
                except (UnavailableError, DataLossError) as error:
                    log.warning("maintenance failed; trying again later", error=error.message, reason=error.reason)
                except StemTubeError as error:
                    log.error("maintenance was refused; trying again later", reason=error.reason, detail=error.message)
                except Exception:
                    log.exception("maintenance failed; trying again later")
            await asyncio.sleep(self._seconds)


class OldJobs:
    """Removes jobs that ended long ago, and requests that led to no job.

    Args:
        store: of the jobs.
        requests: of the same queue.
        threads: run the blocking calls of both.
        keep_seconds: how long finished jobs are kept.
    """

    def __init__(self, store: JobStore, requests: RequestStore, threads: JobStoreThreads, keep_seconds: float) -> None:
        self._store = store
        self._requests = requests
        self._threads = threads
        self._keep_seconds = keep_seconds

    async def remove(self) -> None:
        """Removes all of them that are old enough."""
        await self._threads.call(self._requests.forget_old, self._keep_seconds)
        while ids := await self._threads.call(self._store.old_ids, self._keep_seconds):
            await self._threads.call(self._store.delete, ids)
            log.info("old jobs removed", count=len(ids))
