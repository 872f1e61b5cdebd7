"""Streams and calls that end early: when the server drains, or when a session ends."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from typing import Any, TypeVar

from services.common.errors import (
    UnavailableError,
)

T = TypeVar("T")


class Draining:
    """Tells long streams that the server is going away."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def start(self) -> None:
        """Ends all streams from now on."""
        self._event.set()

    async def watch(self, updates: AsyncGenerator[T, None]) -> AsyncIterator[T]:
        """Passes `updates` on until they end or the server drains.

        Raises:
            UnavailableError: the server drains (reason DRAINING); the client should call again.
        """
        async with contextlib.aclosing(until(updates, self._drained())) as lasting:
            async for update in lasting:
                yield update

    async def _drained(self) -> None:
        await self._event.wait()
        raise UnavailableError("This server is going away; call again.", "DRAINING")


async def until(updates: AsyncGenerator[T, None], end: Coroutine[Any, Any, None]) -> AsyncGenerator[T, None]:
    """Passes `updates` on until they end, or until `end` raises; then raises its error."""
    ending = asyncio.ensure_future(end)
    following: asyncio.Future[T | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(updates, None))
            await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                ending.result()
            update = await following
            if update is None:
                return
            yield update
    finally:
        ending.cancel()
        if following and not following.done():
            following.cancel()
        await asyncio.gather(ending, *([following] if following else []), return_exceptions=True)
        await updates.aclose()


async def unless(work: Awaitable[T], end: Coroutine[Any, Any, None]) -> T:
    """Returns the result of `work`; if `end` raises before that, cancels the work and raises that error."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            ending.result()
        return await working
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)
