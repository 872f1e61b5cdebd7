"""Several children for heavy tasks, shared fairly among users."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

from services.common.compute.engine import Engine
from services.common.compute.fair_limiter import FairLimiter

LEAST_CHILDREN, MOST_CHILDREN = 4, 8


def default_children() -> int:
    """The number of children that share this machine's cores: one per core, within limits.

    At least a few, as tasks wait for disks as well, and so that several users are served side by side; not too many,
    for each takes memory.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores, LEAST_CHILDREN), MOST_CHILDREN)


class EnginePool:
    """Children that do tasks side by side, as many as the limiter has places.

    A child starts when it is needed; one that has been idle for a while ends by itself. A child that was used a moment
    ago is used first. A crash or an out-of-memory kill costs the one task in that child.

    Args:
        make_engine: makes a child's engine.
        limiter: decides whose task comes next.
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
        """An engine that nobody else has as long as the context lasts; the arguments are those of `FairLimiter.place`.

        Raises:
            LimitExceededError: too much waits already (reason TOO_MANY_WAITING).
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
