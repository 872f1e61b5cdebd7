"""Threads in which a job store's calls block: those that only read never wait for one that writes."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from services.common.jobs.database import READING_CONNECTIONS, WRITING_CONNECTIONS

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""Longest time to wait for calls when the queue closes."""


class JobStoreThreads:
    """As many threads as a `JobDatabase` has connections.

    One is for the heartbeat alone: a worker must not lose its jobs because other changes wait.
    """

    def __init__(self) -> None:
        self._readers = ThreadPoolExecutor(READING_CONNECTIONS, "jobs-read")
        self._writers = ThreadPoolExecutor(WRITING_CONNECTIONS - 1, "jobs-write")
        self._beat = ThreadPoolExecutor(1, "jobs-beat")

    async def call(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Calls a method of a store with this task's context; it writes unless `only_reads`."""
        pool = self._readers if getattr(method, "only_reads", False) else self._writers
        return await _call_in(pool, method, *arguments, **options)

    async def call_beat(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Calls what shows that a worker lives."""
        return await _call_in(self._beat, method, *arguments, **options)

    async def close(self) -> None:
        """Takes no more calls, drops those that wait for a thread, and waits a while for those that run.

        A connection that is in use cannot be closed. A call may go on for long while its database is away.
        """
        pools = (self._readers, self._writers, self._beat)
        ends = [asyncio.create_task(asyncio.to_thread(pool.shutdown, cancel_futures=True)) for pool in pools]
        await asyncio.wait(ends, timeout=CLOSE_SECONDS)


async def _call_in(pool: ThreadPoolExecutor, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    work = functools.partial(contextvars.copy_context().run, method, *arguments, **options)
    return await asyncio.get_running_loop().run_in_executor(pool, work)
