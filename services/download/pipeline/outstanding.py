"""Withdraws requests to other services when the job that made them ends early.

A job is noted before its first request and forgotten when all of them have ended or were withdrawn. So a job that is
cancelled while a service is away, or that dies with its process, leaves neither work that nobody needs nor objects of
such work: the withdrawal or the end of the work, whichever is later, removes them. Vocals that are used for a job's
lyrics are kept until the job is forgotten.
"""

import asyncio

import structlog
from sqlalchemy import delete, select

from services.common.errors import NotFoundError, UnavailableError
from services.common.jobs.queue import JobQueue
from services.download.pipeline.plan import Plan, part_names
from services.download.pipeline.progress import SUCCEEDED, parts_in
from services.download.pipeline.remote import RemoteJobs
from services.download.tables import OutstandingRequests
from services.download.tracks.repository import TrackRepository
from services.download.upkeep.trash import Remover

log = structlog.get_logger(__name__)


class Outstanding:
    """Notes the ids of jobs that may have requests, and withdraws these requests."""

    def __init__(self, tracks: TrackRepository, remover: Remover, remote: RemoteJobs) -> None:
        self._database = tracks.database
        self._remover = remover
        self._remote = remote

    async def note(self, job_id: str) -> None:
        """Notes a job that is about to make requests."""
        async with self._database.write(lock=f"outstanding {job_id}") as session:
            if await session.get(OutstandingRequests, job_id) is None:
                session.add(OutstandingRequests(job_id=job_id))

    async def forget(self, job_id: str) -> None:
        """Forgets a job that has no more requests; removes vocals that were kept only for it."""
        gone = delete(OutstandingRequests).where(OutstandingRequests.job_id == job_id)
        async with self._database.write() as session:
            vocals_key = await session.scalar(gone.returning(OutstandingRequests.vocals_key))
        if vocals_key:
            await self._remover.remove([vocals_key])

    async def withdraw(self, jobs: JobQueue, job_id: str) -> None:
        """Withdraws an ended job's requests, and removes their results unless others need them.

        If a service does not answer, `withdraw_all` tries again later.
        """
        record = await jobs.get(job_id)
        ended = {
            part
            for part in parts_in(record, SUCCEEDED)
            if not ((await jobs.kept_step(job_id, part)) or {}).get("result", {}).get("unneeded")
        }
        # Several parts may share a request. A request that has not been sent yet is refused when it arrives.
        requests = {
            request_name(name) for name in part_names(record.payload["plan"]) if name not in {"acquire", *ended}
        }
        if names_sections(record.payload["plan"]):
            requests.add("names")
        answered = await asyncio.gather(*(self.withdraw_request(job_id, name) for name in requests))
        if all(answered):
            await self.forget(job_id)
        elif record.attempts:
            log.info("a service does not answer; requests will be withdrawn later", job=job_id)
            await self.note(job_id)

    async def withdraw_all(self, jobs: JobQueue) -> None:
        """Withdraws the requests of noted jobs that were cancelled, failed, or are no longer kept."""
        async with self._database.read() as session:
            noted = list(await session.scalars(select(OutstandingRequests.job_id)))
        for job_id in noted:
            try:
                if (await jobs.get(job_id)).finished:
                    await self.withdraw(jobs, job_id)
            except NotFoundError:
                await self.forget(job_id)

    async def withdraw_request(self, job_id: str, name: str) -> bool:
        """Withdraws one request, and removes its results unless others need them.

        Returns:
            False if the service does not answer, or the results cannot be removed now.
        """
        keys = await self._remote.cancel(name, f"{job_id}.{name}")
        try:
            await self._remover.remove(keys or ())
        except UnavailableError as error:
            log.warning("results that nobody needs stay for now", job=job_id, reason=error.reason, error=error.message)
            return False
        return keys is not None


def request_name(part: str) -> str:
    """Name of the request that makes a part. All analyses of the mix share one request."""
    return part if part.startswith("separation") or part == "lyrics" else "mix"


def names_sections(plan: Plan) -> bool:
    """Whether a plan makes sections or lyrics, after which sections are named."""
    return any(choice["part"] in ("structure", "lyrics") for choice in plan["analyses"])
