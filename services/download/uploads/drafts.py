"""A file on its way into the object store: a client's bytes are written there once, and hashed meanwhile."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from services.common.errors import InvalidInputError, LimitExceededError
from services.common.storage.objects import ObjectStore
from services.common.storage.spool import Spool
from services.common.storage.writer import PART_BYTES
from services.download.uploads.uploads import PUTS_AT_ONCE


class Drafts:
    """Writes drafts; no slow client holds the memory that an object takes while it is written.

    Args:
        objects: where they are written.
        max_bytes: largest file.
    """

    def __init__(self, objects: ObjectStore, max_bytes: int) -> None:
        self._objects = objects
        self._max_bytes = max_bytes
        self._puts = asyncio.Semaphore(PUTS_AT_ONCE)

    async def put(self, draft: str, chunks: AsyncIterator[bytes], *, stored: bool) -> tuple[str, int]:
        """Writes an object.

        Args:
            draft: its key.
            chunks: its bytes.
            stored: they come from the store or a file, so that nobody keeps them waiting.

        Returns:
            Their SHA-256 in hex, and their number.

        Raises:
            InvalidInputError: there are none (reason EMPTY_FILE).
            LimitExceededError: there are too many (reason TOO_LARGE).
        """
        measured = _Measured(chunks, self._max_bytes)
        if stored:
            async with self._puts:
                await self._objects.put(draft, measured.chunks())
        else:
            await self._put_slowly(draft, measured.chunks())
        if not measured.size:
            raise InvalidInputError("The file is empty.", "EMPTY_FILE")
        return measured.digest.hexdigest(), measured.size

    async def _put_slowly(self, draft: str, chunks: AsyncIterator[bytes]) -> None:
        """Takes bytes to a file that becomes the object, or to the store part by part if it cannot."""
        await self._objects.expect_right_store()
        arrived = self._objects.spool()
        try:
            async for chunk in chunks:
                await arrived.add(chunk)
                if arrived.is_linkable is False:
                    await self._put_in_parts(draft, arrived, chunks)
                    return
            async with self._puts:
                await self._objects.put(draft, arrived)
        finally:
            await asyncio.shield(arrived.clear())

    async def _put_in_parts(self, draft: str, arrived: Spool, chunks: AsyncIterator[bytes]) -> None:
        """Writes bytes whenever they make a part; in between none of them are in memory."""
        async with contextlib.AsyncExitStack() as end, self._objects.writer(draft, parts_in_flight=1) as writer:

            async def write() -> None:
                async for piece in arrived.pieces():
                    await writer.write(piece)
                await arrived.clear()

            async for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    # The first byte of the next part makes the writer wait until this part is stored.
                    room = PART_BYTES - (writer.size + arrived.size - 1) % PART_BYTES
                    await arrived.add(left[:room])
                    if room <= len(left):
                        async with self._puts:
                            await write()
                    left = left[room:]
            await end.enter_async_context(self._puts)
            await write()


class _Measured:
    """Counts bytes as they pass."""

    def __init__(self, chunks: AsyncIterator[bytes], max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self.digest = hashlib.sha256()
        self.size = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._max_bytes:
                limit = self._max_bytes
                raise LimitExceededError(f"The file is larger than {limit} bytes.", "TOO_LARGE", limit=str(limit))
            self.digest.update(chunk)
            yield chunk
