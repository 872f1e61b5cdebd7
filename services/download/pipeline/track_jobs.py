"""Makes jobs of users' requests, and finds and cancels jobs for their users."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from services.common.errors import NotFoundError
from services.common.jobs.messages import queue_priority
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.download.pipeline import requests
from services.download.pipeline.choices import Choices
from services.download.pipeline.pipeline import Pipeline
from services.download.pipeline.plan import Plan, make_plan, missing_work
from services.download.pipeline.submitting import TrackWork, submit
from services.download.tracks.repository import TrackRepository


class TrackJobs:
    """Starts, finds and cancels jobs for the RPCs.

    Args:
        queue: the library's job queue.
        pipeline: runs the jobs.
        tracks: the tracks of all users.
        choices: checks the names of models and backends.
        most_unfinished: jobs that a user may have.
    """

    def __init__(
        self, queue: JobQueue, pipeline: Pipeline, tracks: TrackRepository, choices: Choices, most_unfinished: int
    ) -> None:
        self._queue = queue
        self._pipeline = pipeline
        self._tracks = tracks
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

    async def submit(self, user: str, work: TrackWork, request: Any) -> JobRecord:
        """Submits a job, or joins an unfinished one that does the same.

        Raises:
            LimitExceededError: the user has too many unfinished jobs (reason TOO_MANY_JOBS).
        """
        return await submit(self._queue, user, work, request, most_unfinished=self._most_unfinished)

    async def submit_missing(self, user: str, work: TrackWork, request: Any, content_digest: str = "") -> JobRecord:
        """Submits a job for those parts of the work that the user's track does not have yet.

        Raises:
            NotFoundError: the user has no such track (reason NO_SUCH_TRACK).
            LimitExceededError: the user has too many unfinished jobs (reason TOO_MANY_JOBS). The track stays.
        """
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
