"""Makes jobs of users' requests, and finds and cancels jobs for their users."""

import asyncio
import contextlib
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from services.common.errors import NotFoundError, UnavailableError
from services.common.jobs.messages import queue_priority
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.download.pipeline import requests
from services.download.pipeline.choices import Choices
from services.download.pipeline.pipeline import Pipeline
from services.download.pipeline.plan import Plan, make_plan, missing_work
from services.download.pipeline.submitting import TrackWork, submit
from services.download.tracks.repository import Grant, TrackRepository
from services.download.upkeep.trash import Remover


class TrackJobs:
    """Starts, finds and cancels jobs for the RPCs.

    Args:
        queue: the library's job queue.
        pipeline: runs the jobs.
        tracks: the tracks of all users.
        remover: removes objects that nobody needs.
        choices: checks the names of models and backends.
        most_unfinished: jobs that a user may have.
    """

    def __init__(
        self,
        queue: JobQueue,
        pipeline: Pipeline,
        tracks: TrackRepository,
        remover: Remover,
        choices: Choices,
        most_unfinished: int,
    ) -> None:
        self._queue = queue
        self._pipeline = pipeline
        self._tracks = tracks
        self._remover = remover
        self._choices = choices
        self._most_unfinished = most_unfinished

    async def plan(self, request: Any) -> Plan:
        """Makes a plan of a request's options.

        Raises:
            InvalidInputError: the options are invalid, or name something unknown (reason BAD_REQUEST, UNKNOWN_MODEL,
                …).
        """
        queue_priority(request.options.priority)
        plan = make_plan(request.options if request.HasField("options") else None)
        await self.check(plan)
        return plan

    async def check(self, plan: Plan) -> None:
        """Checks the names of models, stems and backends in a plan.

        Raises:
            InvalidInputError: a name is unknown (reason UNKNOWN_MODEL, UNKNOWN_STEM, UNKNOWN_BACKEND).
        """
        await self._choices.check(plan)

    def claimed(self, user: str, request: Any) -> AbstractAsyncContextManager[JobRecord | None]:
        """Claims a request's id for a block; see `requests.claimed`."""
        return requests.claimed(self._queue, user, request)

    async def note_content(self, user: str, request: Any, content_digest: str) -> None:
        """Stores the digest of the bytes that came with a request; see `requests.note_content`."""
        await requests.note_content(self._queue, user, request, content_digest)

    async def submit(self, user: str, work: TrackWork, request: Any, grant: Grant = Grant.NONE) -> JobRecord:
        """Submits a job, or joins an unfinished one that does the same.

        Args:
            user: the job's owner.
            work: the work of the job.
            request: the RPC's request.
            grant: what the request has changed for the user. It is undone if there is no job in the end.

        Raises:
            LimitExceededError: the user has too many unfinished jobs (reason TOO_MANY_JOBS).
        """
        submitting = submit(self._queue, user, work, request, most_unfinished=self._most_unfinished)
        return await self._submit_or_undo(user, work.track_id, grant, submitting)

    async def submit_missing(
        self, user: str, work: TrackWork, request: Any, grant: Grant, content_digest: str = ""
    ) -> JobRecord:
        """Submits a job for those parts of the work that the user's track does not have yet; otherwise like `submit`.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
            LimitExceededError: the user has too many unfinished jobs (reason TOO_MANY_JOBS).
        """
        submitting = self._submit_missing(user, work, request, content_digest)
        return await self._submit_or_undo(user, work.track_id, grant, submitting)

    async def _submit_or_undo(
        self, user: str, track_id: str, grant: Grant, submitting: Coroutine[Any, Any, JobRecord]
    ) -> JobRecord:
        async def submit_or_undo() -> JobRecord:
            try:
                return await submitting
            except Exception:
                await self._undo(user, track_id, grant)
                raise

        # A client that goes away must not leave a track without a job.
        return await asyncio.shield(asyncio.create_task(submit_or_undo()))

    async def _undo(self, user: str, track_id: str, grant: Grant) -> None:
        """Undoes what adding a track changed for its user, unless another job of the user needs the track."""
        if grant is Grant.NONE or await self._queue.subjects_in_work([track_id], user=user):
            return
        unneeded = await self._tracks.take_back(user, track_id, grant)
        with contextlib.suppress(UnavailableError):  # the store is away: a sweep removes them later
            await self._remover.remove(unneeded)

    async def _submit_missing(self, user: str, work: TrackWork, request: Any, content_digest: str) -> JobRecord:
        data = await self._tracks.track_of(user, work.track_id, computed=True)
        stems: dict[str, set[str]] = {}
        for stem in data.stems:
            stems.setdefault(stem.model, set()).add(stem.name)
        plan = missing_work(work.plan, stems, data.analyses, self._choices.stems)
        work = replace(work, plan=plan)
        return await submit(self._queue, user, work, request, content_digest, most_unfinished=self._most_unfinished)

    async def get(self, user: str, job_id: str) -> JobRecord:
        """Returns a job of a user.

        Raises:
            NotFoundError: the user has no such job (reason NO_SUCH_JOB).
        """
        record = await self._queue.get(job_id)
        if record.user != user:
            raise NotFoundError("There is no such job.", "NO_SUCH_JOB")
        return record

    async def cancel(self, job_id: str) -> None:
        """Cancels a job. If it has not fetched the track's audio yet, the track is removed."""
        await self._queue.cancel(job_id)
        await self._pipeline.withdraw(self._queue, job_id)
        record = await self._queue.get(job_id)
        if record.state == "cancelled":
            await self._pipeline.discard_unfetched(self._queue, job_id, record.user, record.subject)

    async def cancel_all(self, user: str, track_id: str) -> None:
        """Cancels a user's unfinished jobs of a track."""
        for record in await self._queue.unfinished(user):
            if record.subject == track_id:
                await self.cancel(record.id)
