"""Limits the number and the slowness of streams in which clients send files.

Each stream takes little memory (`spool`, and the message that gRPC is receiving) and one part of a file on disk. So the
limit of their number also limits the memory and disk space of all.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.common.errors import InvalidInputError, StemTubeError, TooSlowError
from services.common.limits import MAX_CHUNK_BYTES
from services.common.rpc.limits import Slots
from services.download.config import DownloadSection

# Size of one message.
MAX_REQUEST_BYTES = 2 * MAX_CHUNK_BYTES
DRAIN_BYTES, DRAIN_SECONDS = 8 * 1024 * 1024, 2.0


class ClientStreams:
    """Limits the number of streams, and ends those that are too slow.

    Args:
        section: the settings with the limits.
    """

    def __init__(self, section: DownloadSection) -> None:
        self._slots = Slots(section.upload_streams_per_user, section.upload_streams)
        self._rate = section.upload_bytes_per_second
        self._seconds = section.upload_rate_seconds

    @asynccontextmanager
    async def reading(self, user_id: str, requests: AsyncIterator[Any]) -> AsyncIterator[AsyncGenerator[Any, None]]:
        """Yields an iterator of the requests of a user's stream.

        Raises:
            LimitExceededError: too many streams are open (reason TOO_MANY_STREAMS).
            TooSlowError: the stream is too slow; raised by the iterator.
        """
        with self._slots.slot(user_id):
            async with (
                _drained_after_error(requests),
                contextlib.aclosing(at_minimum_rate(requests, self._rate, self._seconds)) as paced,
            ):
                yield paced


async def at_minimum_rate(
    requests: AsyncIterator[Any], bytes_per_second: float, seconds: float
) -> AsyncGenerator[Any, None]:
    """Yields requests while their chunks arrive at a minimum rate.

    Only the time spent waiting for the client counts, not the time in which its bytes are stored.

    Args:
        requests: messages with a field `chunk`.
        bytes_per_second: the minimum rate; 0 for none.
        seconds: time over which the rate is measured.

    Raises:
        TooSlowError: the rate is lower.
    """
    waited, arrived = 0.0, 0
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds - waited if bytes_per_second else None):
                request = await anext(requests, None)
        except TimeoutError:
            least = f"{bytes_per_second:.0f} bytes a second, over {seconds:.0f} s"
            raise TooSlowError(f"The upload is too slow: it needs at least {least}.") from None
        if request is None:
            return
        waited += time.monotonic() - began
        arrived += len(request.chunk)
        yield request
        if arrived >= bytes_per_second * seconds:
            waited, arrived = 0.0, 0


async def chunks_of(requests: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The bytes that follow the header of a stream of requests.

    Raises:
        InvalidInputError: a message has no chunk (reason BAD_REQUEST).
    """
    async for request in requests:
        if request.WhichOneof("content") != "chunk":
            raise InvalidInputError("After its header, an upload has only chunks.", "BAD_REQUEST")
        yield request.chunk


@asynccontextmanager
async def _drained_after_error(requests: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Reads on for a while after an error, because a client that is still sending may otherwise not see the error.

    If it writes to an RPC that has ended, its gRPC library sometimes reports "Internal error from Core" instead.
    """
    try:
        yield
    except StemTubeError:
        left = DRAIN_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                async for request in requests:
                    left -= len(request.chunk)
                    if left < 0:
                        break
        raise
