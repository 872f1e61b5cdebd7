"""Removes objects that nothing in the library needs: drafts of broken uploads, originals without a track."""

from datetime import UTC, datetime, timedelta

import structlog

from services.common.storage import ObjectStore
from services.download.store import Library

log = structlog.get_logger(__name__)

PREFIXES = ("uploads", "originals", "peaks")
BATCH = 500


async def sweep(objects: ObjectStore, library: Library, older_than: timedelta) -> int:
    """Removes objects that no track needs, those that an upload may still be working on apart.

    Args:
        objects: the store.
        library: knows which objects are needed.
        older_than: younger objects are left alone.

    Returns:
        Number of objects removed.
    """
    before = datetime.now(UTC) - older_than
    old = [
        info.key
        for prefix in PREFIXES
        for info in [found async for found in objects.list(prefix)]
        if info.last_modified < before
    ]
    removed = 0
    for start in range(0, len(old), BATCH):
        for key in await library.unused(old[start : start + BATCH]):
            await objects.delete(key)
            removed += 1
    if removed:
        log.info("objects without a track removed", count=removed)
    return removed
