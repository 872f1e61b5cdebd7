"""Asynchronous iterators over bytes in memory or in a file, in pieces."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


async def pieces_of_bytes(data: bytes) -> AsyncIterator[bytes]:
    """All of `data` as one piece."""
    yield data


async def pieces_of_file(path: Path) -> AsyncGenerator[bytes, None]:
    """The bytes of a local file in pieces."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield piece
    finally:
        file.close()
