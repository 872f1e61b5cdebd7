"""Checks that an object store is the library's: its marker has the id that the library's database knows."""

import contextlib
from pathlib import Path

from cli.backup.databases import ServiceDatabase
from services.common.errors import PreconditionError, StemTubeError
from services.common.storage.marked_store import MARKER, RESTORING, MarkedStore, store_away

ADOPT = "--adopt-store"


async def expect_library_store(store: MarkedStore, database: ServiceDatabase) -> None:
    """Raises an error unless a store is the library's; called before and after a backup.

    Raises:
        UnavailableError: there is no marker (reason STORE_AWAY), or the store does not answer (STORAGE_UNAVAILABLE).
        PreconditionError: the marker is not the library's (reason STORE_WRONG).
    """
    marker, known = await store.marker(), await database.store_id()
    if marker is None:
        raise store_away()
    if not known:
        raise PreconditionError(
            "The library has not marked its object store yet: start it once, then make the backup.", "STORE_WRONG"
        )
    if marker != known:
        raise PreconditionError(
            "The object store is not the one that the library's database knows: correct its URL, or mount it.",
            "STORE_WRONG",
        )


async def expect_restorable(store: MarkedStore, database: ServiceDatabase, objects: Path) -> None:
    """Raises an error if a store is the empty mount point of the present library's store, or is another library's.

    Args:
        store: to restore to.
        database: the present library's.
        objects: the folder of the backup's objects. Its marker is used if the database has no id.

    Raises:
        PreconditionError: there is no marker although there is a database (reason STORE_AWAY), or the marker of another
            library (STORE_WRONG).
        UnavailableError: the store does not answer (reason STORAGE_UNAVAILABLE).
    """
    marker = await store.marker()
    if marker == RESTORING or (marker is None and await _is_empty(database)):
        return
    if marker is None:
        raise PreconditionError(
            f"There is a library's database, but the object store has no {MARKER!r}: it is not mounted, or is another "
            f"one. Nothing was changed. If it is a new disk or bucket, use {ADOPT}.",
            "STORE_AWAY",
        )
    known = ""
    with contextlib.suppress(StemTubeError):  # a damaged database may be the reason for the restore
        known = await database.store_id()
    if not known and (objects / MARKER).exists():
        known = (objects / MARKER).read_text().strip()
    if marker != known:
        raise PreconditionError(
            "The object store is not the one that the library's database or the backup knows. Nothing was changed. "
            f"{ADOPT} uses it for the restored library.",
            "STORE_WRONG",
        )


async def _is_empty(database: ServiceDatabase) -> bool:
    try:
        return await database.is_empty()
    except StemTubeError:
        return False
