"""Several children for heavy tasks, shared fairly among users."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

from services.common.compute.engine import Engine
from services.common.compute.fair_limiter import FairLimiter

LEAST_CHILDREN, MOST_CHILDREN = 4, 8


def default_children() -> int:
    """The default number of children: one per core of this machine, within limits.

    There are at least a few, because tasks also wait for disks and several users are served at the same time. There are
    not too many, because each takes memory.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores, LEAST_CHILDREN), MOST_CHILDREN)


class EnginePool:
    """Children that run tasks in parallel, one for each place of the limiter.

    A child starts when it is needed and ends when it has been idle for a while. The child that was used last is used
    first. A crash or an out-of-memory kill ends only the task in that child.

    Args:
        make_engine: makes a child's engine.
        limiter: decides which user's task comes next.
    """

    def __init__(self, make_engine: Callable[[], Engine], limiter: FairLimiter) -> None:
        self._make_engine = make_engine
        self._limiter = limiter
        self._engines: list[Engine] = []
        self._free: list[Engine] = []

    @contextlib.asynccontextmanager
    async def engine(
        self,
        user: str,
        *,
        patient: bool = False,
        wait_seconds: float | None = None,
        on_waiting: Callable[[], None] | None = None,
    ) -> AsyncIterator[Engine]:
        """Gives exclusive use of an engine within the context; the arguments are as for `FairLimiter.place`.

        Raises:
            LimitExceededError: too many tasks wait already (reason TOO_MANY_WAITING).
        """
        async with self._limiter.place(user, patient=patient, wait_seconds=wait_seconds, on_waiting=on_waiting):
            engine = self._free.pop() if self._free else self._one_more()
            try:
                yield engine
            finally:
                self._free.append(engine)

    async def close(self) -> None:
        """Ends all children."""
        await asyncio.gather(*(engine.close() for engine in self._engines))

    def _one_more(self) -> Engine:
        engine = self._make_engine()
        self._engines.append(engine)
        return engine
