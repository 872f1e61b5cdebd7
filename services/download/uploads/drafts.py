"""Writes incoming files into the object store once, and hashes them meanwhile."""

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
    """Writes incoming files as drafts. A slow client does not hold the memory that writing an object takes.

    Args:
        objects: the object store.
        max_bytes: size of the largest file.
    """

    def __init__(self, objects: ObjectStore, max_bytes: int) -> None:
        self._objects = objects
        self._max_bytes = max_bytes
        self._puts = asyncio.Semaphore(PUTS_AT_ONCE)

    async def put(self, draft: str, chunks: AsyncIterator[bytes], *, stored: bool) -> tuple[str, int]:
        """Writes a draft.

        Args:
            draft: key of the object.
            chunks: the bytes.
            stored: whether the bytes come from the store or a file, and not from a client, which may be slow.

        Returns:
            The SHA-256 of the bytes in hex, and their number.

        Raises:
            InvalidInputError: there are no bytes (reason EMPTY_FILE).
            LimitExceededError: there are too many bytes (reason TOO_LARGE).
        """
        hashed = _HashedChunks(chunks, self._max_bytes)
        if stored:
            async with self._puts:
                await self._objects.put(draft, hashed.chunks())
        else:
            await self._put_slowly(draft, hashed.chunks())
        if not hashed.size:
            raise InvalidInputError("The file is empty.", "EMPTY_FILE")
        return hashed.digest.hexdigest(), hashed.size

    async def _put_slowly(self, draft: str, chunks: AsyncIterator[bytes]) -> None:
        """Collects bytes in a file that becomes the object, or writes them in parts if a file cannot become one."""
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
        """Writes bytes each time there are enough for a part. In between, they are not in memory."""
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


class _HashedChunks:
    """Counts and hashes bytes while they are read, and limits their number."""

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
