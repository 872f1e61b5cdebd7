"""Time limits of a fetch: for the whole, and for stalls."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from services.common.errors import UnavailableError

MIN_PROGRESS_BYTES = 64 * 1024


@contextlib.asynccontextmanager
async def fetch_time_limits(total_seconds: float, stall_seconds: float) -> AsyncIterator[Callable[[int], None]]:
    """Ends the block after `total_seconds`, or after `stall_seconds` in which less than `MIN_PROGRESS_BYTES` arrived.

    Yields:
        A function that the block calls, from any thread, with the number of bytes received so far. Its first call
        counts as progress.

    Raises:
        UnavailableError: the time is over (reason FETCH_TIMEOUT or FETCH_STALLED).
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + total_seconds
    counted: int | None = None

    def on_bytes(number: int) -> None:
        nonlocal counted
        if counted is None or number >= counted + MIN_PROGRESS_BYTES:
            counted = number
            loop.call_soon_threadsafe(move_on)

    def move_on() -> None:
        with contextlib.suppress(RuntimeError):  # the block has ended
            timeout.reschedule(min(deadline, loop.time() + stall_seconds))

    try:
        async with asyncio.timeout(min(total_seconds, stall_seconds)) as timeout:
            yield on_bytes
    except TimeoutError:
        if loop.time() >= deadline:
            raise UnavailableError("Fetching the link took too long.", "FETCH_TIMEOUT") from None
        raise UnavailableError(f"The site sent almost nothing for {stall_seconds:.0f} s.", "FETCH_STALLED") from None
