"""Streams in which clients send files: how many there are at once, and how slow one may be.

Each holds little memory (`spool`, and the message that gRPC is receiving) and one part of a file on disk. So their
number bounds what all take together.
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

# Of one message.
MAX_REQUEST_BYTES = 2 * MAX_CHUNK_BYTES
READ_ON_BYTES, READ_ON_SECONDS = 8 * 1024 * 1024, 2.0


class ClientStreams:
    """Lets streams begin, and ends those that trickle.

    Args:
        section: has the limits.
    """

    def __init__(self, section: DownloadSection) -> None:
        self._slots = Slots(section.upload_streams_per_user, section.upload_streams)
        self._rate = section.upload_bytes_per_second
        self._seconds = section.upload_rate_seconds

    @asynccontextmanager
    async def reading(self, user_id: str, requests: AsyncIterator[Any]) -> AsyncIterator[AsyncGenerator[Any, None]]:
        """The requests of a user's stream, for the time of the block.

        Raises (or the iterator does):
            LimitExceededError: too many are open (reason TOO_MANY_STREAMS).
            TooSlowError: too little came for too long.
        """
        with self._slots.slot(user_id):
            async with (
                _reading_on(requests),
                contextlib.aclosing(at_least(requests, self._rate, self._seconds)) as paced,
            ):
                yield paced


async def at_least(requests: AsyncIterator[Any], bytes_per_second: float, seconds: float) -> AsyncGenerator[Any, None]:
    """Passes requests on while their chunks come at a least rate.

    Only the time counts in which the client is waited for, not that in which its bytes are being stored.

    Args:
        requests: messages with a field `chunk`.
        bytes_per_second: the rate; 0 for none.
        seconds: over which it is measured.

    Raises:
        TooSlowError: less came.
    """
    waited, arrived = 0.0, 0
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds - waited if bytes_per_second else None):
                request = await anext(requests, None)
        except TimeoutError:
            least = f"{bytes_per_second:.0f} bytes a second, over {seconds:.0f} s"
            raise TooSlowError(f"Too little arrives: an upload needs {least}.") from None
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
        InvalidInputError: something else follows (reason BAD_REQUEST).
    """
    async for request in requests:
        if request.WhichOneof("content") != "chunk":
            raise InvalidInputError("After its header an upload has chunks only.", "BAD_REQUEST")
        yield request.chunk


@asynccontextmanager
async def _reading_on(requests: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Takes what a client is still sending when it is refused, within reason: one that writes to an RPC that has ended
    is told "Internal error from Core" by its own gRPC at times, in place of the refusal.
    """
    try:
        yield
    except StemTubeError:
        left = READ_ON_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_ON_SECONDS):
                async for request in requests:
                    left -= len(request.chunk)
                    if left < 0:
                        break
        raise
