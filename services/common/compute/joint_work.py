"""Does equal work only once if several callers of a process want it at the same time."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from services.common.compute.engine import Engine

R = TypeVar("R")


class _Attempt(Generic[R]):
    """A caller's attempt to do the work; others join it once it has begun."""

    def __init__(self) -> None:
        self.task: asyncio.Task[R]
        self.callers = 0
        # Another attempt has begun first, or all callers of this one have left.
        self.given_up = False


class JointWork(Generic[R]):
    """Joins callers that want equal work.

    Each caller waits for its own turn. The first one to get a turn does the work, and all others, waiting or later,
    get its result. So nobody waits for another user's turn. The work continues as long as one of them wants it.

    Args:
        forget: called with a result when no caller needs it any more.
    """

    def __init__(self, forget: Callable[[R], None] | None = None) -> None:
        self._forget = forget
        self._begun: dict[str, _Attempt[R]] = {}
        self._waiting: defaultdict[str, set[_Attempt[R]]] = defaultdict(set)

    @contextlib.asynccontextmanager
    async def result(
        self,
        key: str,
        turn: Callable[[], AbstractAsyncContextManager[Engine]],
        work: Callable[[Engine], Awaitable[R]],
    ) -> AsyncGenerator[R]:
        """Gives the result of the work; it is kept, also for other callers, until the context ends.

        Args:
            key: equal for equal work.
            turn: gives the engine when the caller's turn comes.
            work: does the work.

        Raises:
            Exception: any that `turn` or `work` raises; an error of `work` is raised for every caller that has joined.
        """
        while True:
            attempt = self._begun.get(key) or self._attempt(key, turn, work)
            attempt.callers += 1
            try:
                await asyncio.wait({attempt.task})
                if not attempt.given_up:
                    yield attempt.task.result()
                    return
            finally:
                await self._leave(key, attempt)

    def _attempt(
        self,
        key: str,
        turn: Callable[[], AbstractAsyncContextManager[Engine]],
        work: Callable[[Engine], Awaitable[R]],
    ) -> _Attempt[R]:
        attempt: _Attempt[R] = _Attempt()

        async def take_turn() -> R:
            try:
                async with turn() as engine:
                    self._begin(key, attempt)
                    return await work(engine)
            except BaseException:
                self._end(key, attempt)
                raise

        self._waiting[key].add(attempt)
        attempt.task = asyncio.create_task(take_turn())
        return attempt

    def _begin(self, key: str, attempt: _Attempt[R]) -> None:
        for other in self._waiting.pop(key) - {attempt}:
            other.given_up = True
            other.task.cancel()
        self._begun[key] = attempt

    def _end(self, key: str, attempt: _Attempt[R]) -> None:
        if self._begun.get(key) is attempt:
            del self._begun[key]
        if key in self._waiting:
            self._waiting[key].discard(attempt)
            if not self._waiting[key]:
                del self._waiting[key]

    async def _leave(self, key: str, attempt: _Attempt[R]) -> None:
        attempt.callers -= 1
        if attempt.callers:
            return
        self._end(key, attempt)
        if not attempt.task.done():
            attempt.given_up = True
            attempt.task.cancel()
            await asyncio.wait({attempt.task})
        if not attempt.task.cancelled() and attempt.task.exception() is None and self._forget:
            self._forget(attempt.task.result())
