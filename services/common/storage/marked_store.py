"""The object store of a library.

A marker object distinguishes it from the empty folder of a missing volume, and from another bucket.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from services.common.config import Settings
from services.common.errors import NotFoundError, UnavailableError
from services.common.storage.object_info import ObjectInfo
from services.common.storage.objects import ObjectStore, open_store
from services.common.storage.spool import Spool
from services.common.storage.writer import ObjectWriter

MARKER = "library-id"
"""The object whose content says which library a store belongs to."""
RESTORING = "restore unfinished"
"""Its content while a backup is being restored into the store, which belongs to no library until the restore ends."""
AWAY_REASONS = ("STORE_AWAY", "STORE_WRONG", "STORAGE_UNAVAILABLE")
"""Reasons of errors that say nothing about the object that was asked for."""
# The marker of a bucket is checked again after this time; that of a directory is read each time.
BELIEVED_SECONDS = 2.0
ANSWER_SECONDS = 3.0
T = TypeVar("T")


class MarkedStore(ObjectStore):
    """A store that is used only while it has the marker of a library.

    Without the marker nothing is written or deleted, and a missing object raises UnavailableError, because it may be in
    the store that is away.

    Args:
        objects: the store.
    """

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(objects._opener, objects._root)
        self._believed_until = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def marker(self) -> str | None:
        """The content of the marker; None if there is none.

        Raises:
            UnavailableError: the store does not answer (reason STORAGE_UNAVAILABLE).
        """
        if self._is_to_be_made():
            return None
        try:
            return (await self._get(MARKER)).decode("ascii", "replace").strip()
        except NotFoundError:
            return None

    def _is_to_be_made(self) -> bool:
        """Whether opening the store would make its directory, perhaps where a volume belongs."""
        if self._opened is not None or self._root is None:
            return False
        try:
            self._root.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False  # opening it raises the reason
        return False

    async def expect_right_store(self) -> None:
        """Raises an error if the marker is missing.

        Raises:
            UnavailableError: it is not (reason STORE_AWAY), or the store does not answer (STORAGE_UNAVAILABLE).
        """
        if time.monotonic() < self._believed_until:
            return
        await self._expect_marker()
        if self._root is None:
            self._believed_until = time.monotonic() + BELIEVED_SECONDS

    async def problem(self) -> str:
        """Why the store cannot be used now; empty if it can."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.shield(self._look())
        except UnavailableError as error:
            return f"{error.message} ({error.reason})"
        except TimeoutError:
            return "The object store does not answer. (STORAGE_UNAVAILABLE)"
        return ""

    def _look(self) -> asyncio.Task[None]:
        """Reads the marker; one read serves all callers, and continues even if none waits for it any more."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._expect_marker())
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._looking

    async def copy(self, source: str, destination: str) -> None:
        """As `ObjectStore.copy`, in the right store."""
        await self.expect_right_store()
        await super().copy(source, destination)
        await self.expect_right_store()

    async def delete(self, key: str) -> None:
        """As `ObjectStore.delete`, in the right store."""
        await self.expect_right_store()
        await super().delete(key)

    async def delete_prefix(self, prefix: str) -> int:
        """As `ObjectStore.delete_prefix`, in the right store."""
        await self.expect_right_store()
        return await super().delete_prefix(prefix)

    async def delete_partial(self, partial: ObjectInfo) -> None:
        """As `ObjectStore.delete_partial`, in the right store."""
        await self.expect_right_store()
        await super().delete_partial(partial)

    async def list(self, prefix: str | None = None) -> AsyncIterator[ObjectInfo]:
        """As `ObjectStore.list`; raises an error if the store is away at the beginning or at the end."""
        async for info in super().list(prefix):
            yield info
        await self._expect_marker()

    @contextlib.asynccontextmanager
    async def writer(self, *arguments: Any, **more: Any) -> AsyncIterator[ObjectWriter]:
        """As `ObjectStore.writer`, in the right store."""
        await self.expect_right_store()
        async with super().writer(*arguments, **more) as writer:
            yield writer
        # If the volume went away meanwhile, the bytes are now in the empty directory where it was mounted.
        await self.expect_right_store()

    async def _put_spool(self, key: str, spool: Spool, content_type: str | None) -> int:
        await self.expect_right_store()
        size = await super()._put_spool(key, spool, content_type)
        await self.expect_right_store()
        return size

    async def _expect_marker(self) -> None:
        if await self.marker() is None:
            raise store_away()

    async def _found(self, look: Callable[[], Awaitable[T]]) -> T:
        try:
            return await look()
        except NotFoundError:
            await self._expect_marker()
            return await look()  # the store may have come back just now

    def _found_now(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except NotFoundError:
            try:
                self._open(MARKER).close()
            except NotFoundError:
                raise store_away() from None
            return look()


def open_marked_store(settings: Settings) -> MarkedStore:
    """The library's object store as the settings name it; it need not be there yet.

    Raises:
        InvalidInputError: reason BAD_STORAGE_URL.
    """
    return MarkedStore(open_store(settings))


def store_away() -> UnavailableError:
    """The error of a store without a marker."""
    return UnavailableError(
        f"The object store has no {MARKER!r}: it is not mounted, or another one. Nothing is written or deleted.",
        "STORE_AWAY",
    )
