"""Bytes of a client that wait for the object store in a temporary file: little memory, however many clients send."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO, TypeVar

from services.common.errors import UnavailableError

T = TypeVar("T")

# Held in memory for each stream, besides the message that gRPC is receiving.
BUFFER_BYTES = 128 * 1024


class Spool:
    """Bytes in order; those beyond a small buffer are in a file that no other process sees."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self._written = 0

    @property
    def size(self) -> int:
        """Number of the bytes."""
        return self._written + len(self._buffer)

    async def add(self, chunk: bytes) -> None:
        """Adds bytes at the end.

        Raises:
            UnavailableError: the disk takes no more (reason DISK_FULL).
        """
        self._buffer += chunk
        if len(self._buffer) >= BUFFER_BYTES:
            await _in_thread(self._write)

    async def pieces(self, limit: int | None = None) -> AsyncIterator[bytes]:
        """The bytes, or the first so many of them, in pieces."""
        left = self.size if limit is None else min(limit, self.size)
        at = 0
        while at < self._written and left:
            piece = await _in_thread(self._read, at, min(BUFFER_BYTES, self._written - at, left))
            at, left = at + len(piece), left - len(piece)
            yield piece
        if left:
            yield bytes(self._buffer[:left])

    async def clear(self) -> None:
        """Forgets all bytes."""
        self._buffer.clear()
        self._written = 0
        if self._file is not None:
            file, self._file = self._file, None
            await _in_thread(file.close)

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # `clear` closes it
            self._file.seek(self._written)
            while self._buffer:
                count = self._file.write(self._buffer)
                self._written += count
                del self._buffer[:count]
        except OSError as error:
            raise UnavailableError("There is no room for uploads now; try again later.", "DISK_FULL") from error

    def _read(self, at: int, size: int) -> bytes:
        assert self._file is not None
        self._file.seek(at)
        return self._file.read(size)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Runs blocking work; also when cancelled it has ended by the time that this returns."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
