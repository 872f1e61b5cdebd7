"""Threads for the blocking calls of a job store; calls that only read never wait for one that writes."""

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
    """One thread for each connection of a `JobDatabase`.

    One of them is reserved for the heartbeat: a worker must not lose its leases because other writes wait.
    """

    def __init__(self) -> None:
        self._readers = ThreadPoolExecutor(READING_CONNECTIONS, "jobs-read")
        self._writers = ThreadPoolExecutor(WRITING_CONNECTIONS - 1, "jobs-write")
        self._beat = ThreadPoolExecutor(1, "jobs-beat")

    async def call(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Calls a method of a store with this task's context, in a thread for writers unless it is `only_reads`."""
        pool = self._readers if getattr(method, "only_reads", False) else self._writers
        return await _call_in(pool, method, *arguments, **options)

    async def call_beat(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """As `call`, in the thread of the heartbeat."""
        return await _call_in(self._beat, method, *arguments, **options)

    async def close(self) -> None:
        """Takes no more calls, drops those that wait for a thread, and waits a while for those that run.

        A connection in use cannot be closed, but a call can run for long while its database is away.
        """
        pools = (self._readers, self._writers, self._beat)
        ends = [asyncio.create_task(asyncio.to_thread(pool.shutdown, cancel_futures=True)) for pool in pools]
        await asyncio.wait(ends, timeout=CLOSE_SECONDS)


async def _call_in(pool: ThreadPoolExecutor, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    work = functools.partial(contextvars.copy_context().run, method, *arguments, **options)
    return await asyncio.get_running_loop().run_in_executor(pool, work)
