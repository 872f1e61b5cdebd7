"""Threads for long calls, separate from the event loop's shared ones."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(call: Callable[..., T], *arguments: object) -> T:
    """Makes a call in a thread of its own, with this task's context variables.

    `asyncio.to_thread` has only a few threads for everything: some calls that last for minutes would delay every read
    of a file.

    Returns:
        The call's result.

    Raises:
        Exception: as the call did.
    """
    executor = ThreadPoolExecutor(1)
    try:
        bound = partial(contextvars.copy_context().run, call, *arguments)
        return await asyncio.get_running_loop().run_in_executor(executor, bound)
    finally:
        executor.shutdown(wait=False)


async def in_daemon_thread(call: Callable[..., T], *arguments: object) -> T:
    """As `in_own_thread`, for a call that nothing depends on: the process ends without waiting for it."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(call(*arguments))
        except Exception as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)
