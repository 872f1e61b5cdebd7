"""Cleanups that admins start. They are jobs of the queue: they survive a restart, and every process can show them."""

from dataclasses import asdict
from typing import Any

from services.common.errors import NotFoundError
from services.common.jobs.context import JobContext
from services.common.jobs.messages import job_message
from services.common.jobs.queue import JobQueue, job_key
from services.common.jobs.records import JobRecord
from services.download.tracks.user_tracks import UserTracks
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.trash import Trash
from stemtube.download.v1 import upkeep_pb2

KIND = "cleanup"
# Not a real user, so that cleanups are not listed among the jobs of an admin.
USER = "system"


class Cleanup:
    """Runs cleanup jobs."""

    def __init__(self, sweeper: Sweeper, trash: Trash, user_tracks: UserTracks) -> None:
        self._sweeper = sweeper
        self._trash = trash
        self._user_tracks = user_tracks

    async def handle(self, job: JobContext) -> dict[str, Any]:
        """Runs one cleanup and returns its report."""

        async def work() -> dict[str, Any]:
            job.report("cleaning", 0.0)
            dry_run = job.payload["dry_run"]
            expired = len(await self._user_tracks.expired()) if dry_run else await self._trash.empty()
            report = await self._sweeper.sweep(dry_run=dry_run)
            report.expired_track_count = expired
            return asdict(report)

        return await job.step("cleanup", work)


async def start_cleanup(jobs: JobQueue, *, dry_run: bool) -> JobRecord:
    """Submits a cleanup, or returns an unfinished one of the same kind."""

    async def never(_record: JobRecord) -> bool:
        return False

    return await jobs.submit(KIND, {"dry_run": dry_run}, key=job_key(KIND, dry_run), user=USER, reusable=never)


async def get_cleanup(jobs: JobQueue, cleanup_id: str) -> JobRecord:
    """Returns a cleanup.

    Raises:
        NotFoundError: there is no such cleanup (reason NO_SUCH_JOB).
    """
    record = await jobs.get(cleanup_id)
    if record.kind != KIND:
        raise NotFoundError("There is no such cleanup.", "NO_SUCH_JOB")
    return record


def cleanup_message(record: JobRecord) -> upkeep_pb2.Cleanup:
    """Makes the message of a cleanup."""
    report = upkeep_pb2.CleanupReport(**record.result) if record.result is not None else None
    return upkeep_pb2.Cleanup(job=job_message(record), dry_run=record.payload["dry_run"], report=report)
