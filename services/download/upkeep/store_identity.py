"""Checks that the object store belongs to the library: a marker object in it has the id that the database has.

Without this check, an unmounted volume or a wrong bucket looks like a library that has lost all its files.
"""

import uuid
from dataclasses import dataclass

import structlog
from sqlalchemy import func, select, union_all

from services.common.errors import UnavailableError
from services.common.storage.database import Database
from services.common.storage.marked_store import MARKER, RESTORING, MarkedStore, store_away
from services.common.storage.objects import ObjectStore
from services.download.tables import Stem, StoreIdentity, Track

log = structlog.get_logger(__name__)

# Number of records whose objects are looked for in an unknown store.
SAMPLE = 200
LIBRARY_PREFIXES = ("originals", "stems", "peaks", "covers", "trash")


@dataclass(frozen=True, slots=True)
class _Found:
    """The contents of a store.

    Args:
        marker: the id in its marker; None if there is no marker.
        known: number of objects that were looked for.
        present: how many of them it has.
    """

    marker: str | None
    known: int
    present: int

    @property
    def holds_the_library(self) -> bool:
        """Whether it has two thirds of the objects. Earlier versions may have lost a few."""
        return self.known > 0 and self.present * 3 >= self.known * 2


class StoreCheck:
    """Compares the store's marker with the id in the database, and writes both for a new library.

    Args:
        objects: the object store.
        database: the library's database.
    """

    def __init__(self, objects: ObjectStore, database: Database) -> None:
        self._objects = objects
        self._marked = MarkedStore(objects)
        self._database = database
        self._store_id = ""

    async def expect(self) -> None:
        """Checks that the store is the library's. If the library has none yet, an empty store, or one with its objects,
        becomes the library's.

        Raises:
            UnavailableError: there is no marker (reason STORE_AWAY) or that of another library (STORE_WRONG), the store
                has objects that this library does not know (STORE_NOT_EMPTY), or it does not answer
                (STORAGE_UNAVAILABLE).
        """
        if not self._store_id:
            await self.identify()
        marker = await self._marked.marker()
        if marker is not None and marker != self._store_id:
            await self._reload()
        _expect_marker(marker, self._store_id)

    async def identify(self, *, adopt: bool = False) -> None:
        """Reads the id of the library's store from the database. If there is none, makes this store the library's.

        Args:
            adopt: whether to make this store the library's even if it has another marker. A store without any of the
                library's objects is still refused.

        Raises:
            UnavailableError: as for `expect`.
        """
        await self._reload()
        if self._store_id and not adopt:
            return
        marker = await self._marked.marker()
        found = _Found(None if marker == RESTORING else marker, *await self._compare())
        planned = await self._planned()
        if adopt:
            _expect_something(found)
        elif not (planned and found.marker == planned):
            await self._expect_own(found)
        await self._mark(found.marker, found.marker or planned or uuid.uuid4().hex)

    async def _reload(self) -> None:
        async with self._database.read() as session:
            row = await session.get(StoreIdentity, 1)
        self._store_id = row.store_id if row and row.confirmed else ""

    async def _planned(self) -> str:
        """The stored id, even if it is not known whether its marker was written; empty if there is none."""
        async with self._database.read() as session:
            row = await session.get(StoreIdentity, 1)
        return row.store_id if row and not row.confirmed else ""

    async def _compare(self) -> tuple[int, int]:
        """Looks for a sample of the records' objects: the size of the sample, and how many objects the store has."""
        keys = union_all(select(Track.audio_key.label("key")).where(Track.audio_key != ""), select(Stem.audio_key))
        sample = select(keys.subquery().c.key).order_by(func.random()).limit(SAMPLE)
        async with self._database.read() as session:
            known = list(await session.scalars(sample))
        present = [await self._objects.exists(key) for key in known]
        return len(known), sum(present)

    async def _expect_own(self, found: _Found) -> None:
        if found.known and not found.holds_the_library:
            reason = "STORE_AWAY" if found.marker is None else "STORE_WRONG"
            raise UnavailableError(
                f"The object store has {found.present} of {found.known} objects that the library looked for: it is the "
                "wrong one, or not mounted.",
                reason,
            )
        if not found.known and found.marker is not None:
            raise _wrong()
        if not found.known and await self._holds_anything():
            raise UnavailableError(
                "The object store has objects, but this library's database knows none of them: one of the two is the "
                "wrong one. STEMTUBE_DOWNLOAD__ADOPT_STORE=true makes the store this library's.",
                "STORE_NOT_EMPTY",
            )

    async def _holds_anything(self) -> bool:
        for prefix in LIBRARY_PREFIXES:
            async for _info in self._objects.list(prefix):
                return True
        return False

    async def _mark(self, marker: str | None, store_id: str) -> None:
        """Writes id and marker. If the process ends in between, the next one completes this."""
        async with self._database.write(lock="store identity") as session:
            row = await session.get(StoreIdentity, 1)
            if row is None:
                session.add(StoreIdentity(id=1, store_id=store_id, confirmed=False))
            elif marker is None and not row.confirmed:
                store_id = row.store_id  # another process is about to write this id
            else:
                row.store_id, row.confirmed = store_id, False
        if marker != store_id:
            await self._objects.put(MARKER, store_id.encode())
        async with self._database.write(lock="store identity") as session:
            row = await session.get(StoreIdentity, 1)
            if row is not None and row.store_id == store_id:
                row.confirmed = True
        await self._reload()
        log.info("the object store now belongs to this library", store_id=store_id)


class GuardedStore(MarkedStore):
    """The library's object store, which is used only while its marker has the id in the database."""

    def __init__(self, objects: ObjectStore, database: Database) -> None:
        super().__init__(objects)
        self.check = StoreCheck(objects, database)

    async def _expect_marker(self) -> None:
        await self.check.expect()


def _expect_marker(marker: str | None, store_id: str) -> None:
    if marker is None:
        raise store_away()
    if marker == RESTORING:
        raise UnavailableError(
            "A restore into the object store has not ended: repeat `stemtube admin restore --force`.", "STORE_WRONG"
        )
    if marker != store_id:
        raise _wrong()


def _expect_something(found: _Found) -> None:
    if found.known and not found.present:
        raise UnavailableError(
            f"The object store has none of {found.known} objects that the library looked for: it is not adopted.",
            "STORE_AWAY",
        )


def _wrong() -> UnavailableError:
    return UnavailableError(
        "The object store belongs to another library. Nothing is written or deleted in it.", "STORE_WRONG"
    )
