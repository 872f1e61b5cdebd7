"""Limits the cache of originals and stems in other formats.

These copies do not count in quotas, because they can be made again at any time. Beyond the size of the cache the oldest
ones are removed, no matter which user asked for them.
"""

import asyncio

import structlog

from services.common.storage.object_info import ObjectInfo
from services.common.storage.objects import ObjectStore
from services.download.upkeep.trash import DERIVED

log = structlog.get_logger(__name__)


class Conversions:
    """Removes old copies from the cache.

    Args:
        objects: the store of the copies.
        max_bytes: size of the cache. A larger copy stays until the next one is made.
    """

    def __init__(self, objects: ObjectStore, max_bytes: int) -> None:
        self._objects = objects
        self._max_bytes = max_bytes
        # Size when last listed, plus the copies of this process since; None before the first listing.
        self._bytes: int | None = None
        self._trimming = asyncio.Lock()

    async def note(self, key: str) -> None:
        """Counts a new copy, and removes the oldest others if the cache is too large."""
        async with self._trimming:
            if self._bytes is not None:
                self._bytes += (await self._objects.head(key)).size
            if self._bytes is None or self._bytes > self._max_bytes:
                await self._trim(key)

    async def trim(self) -> None:
        """Removes the oldest copies if the cache is too large."""
        async with self._trimming:
            await self._trim("")

    async def _trim(self, newest: str) -> None:
        found: list[ObjectInfo] = [info async for info in self._objects.list(DERIVED)]
        size = sum(info.size for info in found)
        removed = 0
        for info in sorted(found, key=lambda info: info.last_modified):
            if size <= self._max_bytes:
                break
            if info.key != newest:
                await self._objects.delete(info.key)
                size, removed = size - info.size, removed + 1
        self._bytes = size
        if removed:
            log.info("copies in other formats removed", count=removed, left_bytes=size)
