"""Removes what dead attempts left in the object store."""

import structlog

from services.common.errors import NotFoundError
from services.common.jobs import JobQueue
from services.common.storage import ObjectStore

log = structlog.get_logger(__name__)

PREFIX = "stems"


async def sweep(objects: ObjectStore, jobs: JobQueue) -> int:
    """Removes objects of attempts that did not become their job's result, once the job has ended.

    A job that is no longer kept is left alone: its stems are the library's.

    Returns:
        Number of objects removed.
    """
    attempts: dict[str, set[str]] = {}
    async for info in objects.list(PREFIX):
        _, job_id, lease, *_ = info.key.split("/")
        attempts.setdefault(job_id, set()).add(f"{PREFIX}/{job_id}/{lease}")
    removed = 0
    for job_id, prefixes in attempts.items():
        try:
            record = await jobs.get(job_id)
        except NotFoundError:
            continue
        if record.finished:
            stems = (record.result or {}).get("stems", [])
            used = {stem["audio_key"].rpartition("/")[0] for stem in stems}
            for prefix in prefixes - used:
                removed += await objects.delete_prefix(prefix)
    if removed:
        log.info("objects of dead attempts removed", count=removed)
    return removed
