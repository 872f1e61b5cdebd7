"""Threads in which a job store's calls block: those that only read never wait for one that writes."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from services.common.jobs.store import READING_CONNECTIONS, READS, WRITING_CONNECTIONS

P = ParamSpec("P")
T = TypeVar("T")


class JobStoreThreads:
    """As many threads as a `JobStore` has connections.

    One writes nothing but that a worker lives: it must not lose its jobs because others' changes wait.
    """

    def __init__(self) -> None:
        self._readers = ThreadPoolExecutor(READING_CONNECTIONS, "jobs-read")
        self._writers = ThreadPoolExecutor(WRITING_CONNECTIONS - 1, "jobs-write")
        self._beat = ThreadPoolExecutor(1, "jobs-beat")

    async def call(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Calls a method of the store, or of the engine, with this task's context; what is not in READS writes."""
        name = getattr(method, "__name__", "")
        pool = self._readers if name in READS else self._beat if name == "beat" else self._writers
        work = functools.partial(contextvars.copy_context().run, method, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def close(self) -> None:
        """Takes no more calls; those that wait for a thread are dropped."""
        for pool in (self._readers, self._writers, self._beat):
            pool.shutdown(wait=False, cancel_futures=True)
