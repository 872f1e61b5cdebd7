"""Removes objects of failed attempts from the object store."""

import structlog

from services.common.errors import NotFoundError
from services.common.jobs.queue import JobQueue
from services.common.storage.objects import ObjectStore

log = structlog.get_logger(__name__)

PREFIX = "stems"
# An object RESULTS/JOB/LEASE marks an attempt whose stems became the job's result. The database cannot tell this
# reliably: one that is restored from an older backup may run the job again, with another attempt.
RESULTS = "separations"


async def sweep(objects: ObjectStore, jobs: JobQueue) -> int:
    """Removes objects of attempts that did not become the result of their job, after the job has ended.

    The library removes stems that were a result. Stems of a job that is no longer kept stay, too.

    Returns:
        Number of removed objects.
    """
    results = {info.key.removeprefix(f"{RESULTS}/") async for info in objects.list(RESULTS)}
    attempts: dict[str, set[str]] = {}
    written = [info async for info in objects.list(PREFIX)]
    for info in (*written, *await objects.partials(PREFIX)):
        _, job_id, lease, *_ = info.key.split("/")
        attempts.setdefault(job_id, set()).add(f"{job_id}/{lease}")
    removed = 0
    for job_id, found in attempts.items():
        try:
            record = await jobs.get(job_id)
        except NotFoundError:
            continue
        if record.finished:
            stems = (record.result or {}).get("stems", [])
            used = {stem["audio_key"].rpartition("/")[0].removeprefix(f"{PREFIX}/") for stem in stems}
            for attempt in (used & found) - results:
                await objects.put(f"{RESULTS}/{attempt}", b"1")
            for attempt in found - used - results:
                removed += await objects.delete_prefix(f"{PREFIX}/{attempt}")
    there = {attempt for found in attempts.values() for attempt in found}
    for attempt in results - there:
        await objects.delete(f"{RESULTS}/{attempt}")
    if removed:
        log.info("objects of failed attempts removed", count=removed)
    return removed
