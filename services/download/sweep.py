"""Removes objects that nothing in the library needs: drafts of broken uploads, originals and stems without a track."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import structlog

from services.common.storage import ObjectStore
from services.download.removal import DERIVED, Remover, source_key
from services.download.store import Library

log = structlog.get_logger(__name__)

BATCH = 500


async def sweep(objects: ObjectStore, library: Library, *, older_than: timedelta, stems_older_than: timedelta) -> int:
    """Removes objects that no track needs, those that somebody may still be working on apart.

    Args:
        objects: the store.
        library: knows which objects are needed.
        older_than: younger objects are left alone.
        stems_older_than: younger stems are: the separation service gives those of its kept jobs to equal requests.

    Returns:
        Number of objects removed.
    """
    remover = Remover(objects, library)
    removed = 0
    for prefix in ("uploads", "originals", "peaks", "covers", "stems"):
        age = stems_older_than if prefix == "stems" else older_than
        async for keys in _old(objects, prefix, age):
            removed += await remover.remove(await library.unused(keys))
    async for keys in _old(objects, DERIVED, older_than):
        gone = set(await library.unused([source_key(key) for key in keys]))
        for key in keys:
            if source_key(key) in gone:
                await objects.delete(key)
                removed += 1
    if removed:
        log.info("objects without a track removed", count=removed)
    return removed


async def _old(objects: ObjectStore, prefix: str, age: timedelta) -> AsyncIterator[list[str]]:
    """Keys of the objects below a prefix that are of an age, in batches."""
    before = datetime.now(UTC) - age
    keys = [info.key async for info in objects.list(prefix) if info.last_modified < before]
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]
