"""Slowly compares all originals with the digests in their keys, because disks can damage files without an error.

A damaged original is marked and reported, but never removed. Its copies in other formats are removed, because they may
have been made from the damaged bytes.
"""

import asyncio
import contextlib
import hashlib
import re
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import or_, select

from services.common.errors import NotFoundError, StemTubeError
from services.common.storage.database import Database
from services.common.storage.objects import ObjectStore
from services.download.tables import ObjectState, Track
from services.download.upkeep.object_states import ObjectStates
from services.download.upkeep.trash import remove_derived

log = structlog.get_logger(__name__)

ORIGINAL = re.compile(r"originals/([0-9a-f]{64})")
IDLE_SECONDS = 60.0


class Scrubber:
    """Compares originals with their digests, beginning with those whose last comparison was longest ago.

    Args:
        objects: the object store.
        database: the library's database.
        bytes_per_second: highest rate of reading; 0 for no limit.
        again_after: time after which an original is compared again.
    """

    def __init__(
        self, objects: ObjectStore, database: Database, *, bytes_per_second: int, again_after: timedelta
    ) -> None:
        self._objects = objects
        self._database = database
        self._states = ObjectStates(database)
        self._bytes_per_second = bytes_per_second
        self._again_after = again_after

    async def run(self) -> None:
        """Compares originals until it is cancelled."""
        while True:
            try:
                found_one = await self.check_next()
            except StemTubeError as error:
                log.warning("originals cannot be compared now", reason=error.reason)
                found_one = False
            except Exception:
                log.exception("originals cannot be compared")
                found_one = False
            if not found_one:
                await asyncio.sleep(IDLE_SECONDS)

    async def check_next(self) -> bool:
        """Compares the next original.

        Returns:
            False if none is due.

        Raises:
            UnavailableError: the object store is unavailable, or not the library's.
        """
        key = await self._next()
        if key is None:
            return False
        await self._objects.expect_right_store()
        # Noted first, so that other processes take other originals, and one that cannot be read blocks no others.
        state = await self._states.get(key)
        was_damaged = state is not None and state.damaged_since is not None
        await self._states.checked(key, datetime.now(UTC), damaged=was_damaged)
        with contextlib.suppress(NotFoundError):
            # Read a second time, because the first error may be one of the transfer.
            damaged = not await self._is_whole(key) and not await self._is_whole(key)
            await self._objects.expect_right_store()
            await self._states.checked(key, datetime.now(UTC), damaged=damaged)
            if damaged or was_damaged:
                await remove_derived(self._objects, key)
            if damaged:
                log.error("an original is damaged", key=key, tracks=await self._tracks_of(key))
            elif was_damaged:
                log.info("an original is no longer damaged", key=key)
            await self._states.measure()
        return True

    async def _next(self) -> str | None:
        """Key of the original to compare next; None if none is due."""
        due = or_(ObjectState.check_time.is_(None), ObjectState.check_time < datetime.now(UTC) - self._again_after)
        query = (
            select(Track.audio_key)
            .outerjoin(ObjectState, ObjectState.key == Track.audio_key)
            .where(Track.audio_key.like("originals/%"), ObjectState.missing_since.is_(None), due)
            .order_by(ObjectState.check_time.is_not(None), ObjectState.check_time, Track.audio_key)
        )
        async with self._database.read() as session:
            async for key in await session.stream_scalars(query):
                if ORIGINAL.fullmatch(key):
                    return str(key)
        return None

    async def _is_whole(self, key: str) -> bool:
        return await is_whole(self._objects, key, self._bytes_per_second)

    async def _tracks_of(self, key: str) -> list[str]:
        async with self._database.read() as session:
            return list(await session.scalars(select(Track.id).where(Track.audio_key == key).limit(20)))


async def is_whole(objects: ObjectStore, key: str, bytes_per_second: int = 0) -> bool:
    """Whether an original has the digest in its key.

    Args:
        objects: the object store.
        key: the original's key, `originals/SHA256`.
        bytes_per_second: highest rate of reading; 0 for no limit.

    Raises:
        NotFoundError: the original does not exist (reason NO_SUCH_OBJECT).
    """
    digest = hashlib.sha256()
    async for piece in objects.stream(key):
        await asyncio.to_thread(digest.update, piece)
        if bytes_per_second:
            await asyncio.sleep(len(piece) / bytes_per_second)
    return digest.hexdigest() == key.rpartition("/")[2]
