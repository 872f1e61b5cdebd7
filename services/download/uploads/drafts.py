"""A file on its way into the object store: a client's bytes go there in parts, then as one object."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from services.common.errors import InvalidInputError, LimitExceededError
from services.common.storage.objects import ObjectStore
from services.download.uploads.spool import Spool
from services.download.uploads.uploads import PART_BYTES, PUTS_AT_ONCE


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
            stored: they come from the store, so that nobody keeps them waiting.

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
            await self._put_in_parts(draft, measured.chunks())
        if not measured.size:
            raise InvalidInputError("The file is empty.", "EMPTY_FILE")
        return measured.digest.hexdigest(), measured.size

    async def _put_in_parts(self, draft: str, chunks: AsyncIterator[bytes]) -> None:
        parts: list[str] = []
        arrived = Spool()

        async def whole() -> AsyncIterator[bytes]:
            for part in parts:
                async for piece in self._objects.stream(part):
                    yield piece
            async for piece in arrived.pieces():
                yield piece

        try:
            async for chunk in chunks:
                await arrived.add(chunk)
                if arrived.size >= PART_BYTES:
                    parts.append(f"{draft}-part{len(parts)}")
                    async with self._puts:
                        await self._objects.put(parts[-1], arrived.pieces())
                    await arrived.clear()
            async with self._puts:
                await self._objects.put(draft, whole())
        finally:
            await asyncio.shield(self._forget(arrived, parts))

    async def _forget(self, arrived: Spool, parts: list[str]) -> None:
        await arrived.clear()
        for part in parts:
            await self._objects.delete(part)


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
