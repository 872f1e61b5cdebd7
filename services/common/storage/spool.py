"""Buffers bytes in a file without a name: takes little memory, and leaves no file if the process dies."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from services.common.errors import UnavailableError

T = TypeVar("T")

# Memory for each stream, besides the message that gRPC is receiving.
BUFFER_BYTES = 128 * 1024
READ_BYTES = 1024 * 1024
_LINK_ATTEMPTS = 3


class Spool:
    """A sequence of bytes; those beyond a small buffer are in a file that no other process sees.

    Args:
        folder: folder of the file, if the file can be linked there later (on Linux, but not on NFS). Otherwise, and
            without a folder, it is an ordinary temporary file.

    Attributes:
        is_linkable: whether `link` can work; None while there is no file.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self._written = 0
        self._is_linked = False
        self.is_linkable: bool | None = None

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._written + len(self._buffer)

    async def add(self, chunk: bytes | memoryview) -> None:
        """Adds bytes at the end.

        Raises:
            UnavailableError: the disk is full (reason DISK_FULL).
        """
        if self._is_linked:
            raise RuntimeError("the bytes are another file's now")
        if len(self._buffer) + len(chunk) < BUFFER_BYTES:
            self._buffer += chunk
        else:
            await _in_thread(self._write, chunk)

    async def pieces(self, limit: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes, or the first `limit` of them, in pieces."""
        left = self.size if limit is None else min(limit, self.size)
        at = 0
        while at < self._written and left:
            piece = await _in_thread(self._read, at, min(READ_BYTES, self._written - at, left))
            at, left = at + len(piece), left - len(piece)
            yield piece
        if left:
            yield bytes(self._buffer[:left])

    async def link(self, path: Path) -> None:
        """Links the file to a path, so that no byte is written again; nothing can be added afterwards.

        Raises:
            OSError: the file cannot be linked, or the path exists.
            UnavailableError: the disk is full (reason DISK_FULL).
        """
        if not self.is_linkable:
            raise OSError("the file cannot be linked")
        await _in_thread(self._link, path)

    async def clear(self) -> None:
        """Removes all bytes; linked files stay."""
        self._buffer.clear()
        self._written = 0
        self._is_linked, self.is_linkable = False, None
        if self._file is not None:
            file, self._file = self._file, None
            await _in_thread(file.close)

    def _write(self, chunk: bytes | memoryview = b"") -> None:
        try:
            if self._file is None:
                self._file = self._open()
            self._file.seek(self._written)
            while self._buffer:
                count = self._file.write(self._buffer)
                self._written += count
                del self._buffer[:count]
            left = memoryview(chunk)
            while left:
                count = self._file.write(left)
                self._written += count
                left = left[count:]
        except OSError as error:
            raise UnavailableError("There is no room for uploads now; try again later.", "DISK_FULL") from error

    def _open(self) -> BinaryIO:
        unnamed = getattr(os, "O_TMPFILE", 0)
        if self._folder is not None and unnamed:
            # Fails if the system or the file system has no such files.
            with contextlib.suppress(OSError):
                file = os.fdopen(os.open(self._folder, unnamed | os.O_RDWR, 0o666), "w+b", buffering=0)
                self.is_linkable = True
                return file
        self.is_linkable = False
        return tempfile.TemporaryFile(buffering=0)

    def _read(self, at: int, size: int) -> bytes:
        assert self._file is not None
        self._file.seek(at)
        return self._file.read(size)

    def _link(self, path: Path) -> None:
        self._write()
        assert self._file is not None
        assert self._folder is not None
        # With a folder's descriptor Python calls `linkat`; only that follows the link under /proc to the file.
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            for attempt in range(_LINK_ATTEMPTS):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(f"/proc/self/fd/{self._file.fileno()}", path, src_dir_fd=folder)
                    break
                except FileNotFoundError:
                    # The store removes a folder with its last object, perhaps just after the folder was made here.
                    if attempt == _LINK_ATTEMPTS - 1:
                        raise
        finally:
            os.close(folder)
        self._is_linked = True


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Runs blocking work in a thread; returns only when the work has ended, even if cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
