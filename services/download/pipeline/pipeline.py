"""A track's way: its audio is acquired, then separated and analysed side by side, lyrics as soon as vocals exist.

At the end the sections are named again, by the words that are sung in them.

One job a request. Each part is a durable step that follows the job of another service and keeps the result the moment
it exists; a part that fails leaves the others alone.
"""

import asyncio
from typing import Any

import structlog

from services.common.errors import Code, StemTubeError
from services.common.jobs.context import JobContext
from services.common.jobs.errors import KeptError, error_detail
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import BATCH, INTERACTIVE
from services.common.jobs.retry import TRANSIENT
from services.common.unchanged import Unchanged
from services.download.fetching.links import LinkFetcher, Requester
from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.outstanding import Outstanding, names_sections
from services.download.pipeline.plan import Plan, part_names, separation_part
from services.download.pipeline.progress import QUEUED, RUNNING, JobProgress
from services.download.pipeline.remote import RemoteJobs
from services.download.pipeline.run import Outcome, Run
from services.download.pipeline.section_naming import SectionNaming
from services.download.tracks.repository import TrackRepository
from services.download.tracks.versions import Versions
from services.download.upkeep.trash import Remover
from services.download.upkeep.usage import Usage
from stemtube.job.v1 import job_pb2

log = structlog.get_logger(__name__)

KIND = "track"
# A link's job is submitted within this time of its track.
SUBMITTING_SECONDS = 600.0


class Pipeline:
    """Handles the jobs of tracks."""

    def __init__(
        self,
        library: TrackRepository,
        remover: Remover,
        links: LinkFetcher,
        usage: Usage,
        remote: RemoteJobs,
        found_lyrics: FoundLyrics,
        versions: Versions,
    ) -> None:
        self._versions = versions
        self._unfetched: Unchanged[str, str] = Unchanged()
        self._library = library
        self._remover = remover
        self._links = links
        self._usage = usage
        self._remote = remote
        self._found_lyrics = found_lyrics
        outstanding = self._outstanding = Outstanding(library, remover, remote)
        self.withdraw = outstanding.withdraw
        self.withdraw_outstanding = outstanding.withdraw_all

    async def handle(self, job: JobContext, jobs: JobQueue) -> Outcome:
        """Runs one job to its end; the queue calls again with the same job after a transient error."""
        structlog.contextvars.bind_contextvars(track_id=job.payload["track_id"])
        plan: Plan = job.payload["plan"]
        job_progress = JobProgress(job, part_names(plan))
        run = Run(
            job,
            jobs,
            job_progress,
            self._library,
            self._remover,
            self._usage,
            self._remote,
            self._found_lyrics,
            self._versions,
            self._outstanding,
        )
        try:
            acquired = await job.step("acquire", lambda: self._acquire(run))
        except StemTubeError as error:
            if not job.is_final(error):
                run.progress.update("acquire", QUEUED, stage="waiting to try again")
            else:
                await self._links.forget_idle_partial(run.track_id)
                run.progress.fail("acquire", error_detail(error))
                await self.discard_unfetched(jobs, job.job_id, job.user, run.track_id)
            raise
        run.audio_key = acquired["audio_key"]
        run.progress.settle({"acquire": None})
        await self._outstanding.note(job.job_id)
        separations = [
            asyncio.create_task(job.step(separation_part(number), _later(run.separate, number, choice)))
            for number, choice in enumerate(plan["separations"])
        ]
        mix = [choice for choice in plan["analyses"] if choice["part"] != "lyrics"]
        lyrics = [choice for choice in plan["analyses"] if choice["part"] == "lyrics"]
        analyses = [asyncio.create_task(job.step("mix", _later(run.analyse, run.audio_key, mix)))] if mix else []
        if lyrics:
            analyses.append(asyncio.create_task(job.step("lyrics", _later(run.transcribe, separations, lyrics))))
        tasks = [*separations, *analyses]
        if names_sections(plan):
            naming = SectionNaming(job, job_progress, self._library, self._versions, self._remote)
            tasks.append(asyncio.create_task(job.step("names", _later(naming.run, list(tasks)))))
        try:
            outcomes = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        for outcome in outcomes:
            run.progress.settle(outcome["parts"])
        await self._outstanding.forget(job.job_id)
        errors = run.progress.errors()
        if errors and not run.progress.any_succeeded():
            raise _NothingMadeError(errors[0])
        return {}

    async def discard_unfetched(self, jobs: JobQueue, job_id: str, user: str, track_id: str) -> None:
        """Takes a track whose audio will not arrive from the user of a job that has ended without it.

        Another user keeps it, and so does this one if another job of theirs still waits for the audio.
        """
        waiting = [record for record in await jobs.unfinished(user) if record.subject == track_id]
        if all(record.id == job_id for record in waiting):
            await self._library.discard_unfetched(user, track_id)
            await self._links.forget_idle_partial(track_id)

    async def discard_given_up(self, jobs: JobQueue) -> None:
        """Discards tracks that wait for audio which no job is about to bring: its worker died, again and again."""
        unfetched = dict.fromkeys(await self._library.unfetched(), "")
        for track_id in self._unfetched.since(unfetched, SUBMITTING_SECONDS):
            for user in await self._library.users_of(track_id):
                await self.discard_unfetched(jobs, "", user, track_id)

    async def _acquire(self, run: Run) -> Outcome:
        payload = run.job.payload
        lane = BATCH if payload["priority"] == job_pb2.PRIORITY_BATCH else INTERACTIVE
        # Earlier versions asked for no cookies.
        requester = Requester(run.job.user, lane, payload.get("use_cookies", False))
        async with self._usage.held(run.job.user) as room:
            audio_key = await self._links.acquire(
                run.track_id,
                requester,
                lambda stage, done, **news: run.progress.update("acquire", RUNNING, progress=done, stage=stage, **news),
                lambda: run.progress.update("acquire", QUEUED, stage="waiting for other links"),
                room.settle,
                room.id,
            )
        run.progress.succeed("acquire")
        return {"audio_key": audio_key}


class _NothingMadeError(KeptError):
    """The error of a part as the end of a job that made nothing.

    The other services have tried as often as they do, and would answer the same requests with the same failed jobs:
    an error that is transient of the part is final of the job.
    """

    def __init__(self, detail: dict[str, Any]) -> None:
        super().__init__(detail)
        if self.code in TRANSIENT:
            self.code = Code.FAILED_PRECONDITION


def _later(call: Any, *arguments: Any) -> Any:
    """A step's work: a coroutine function without arguments."""

    async def work() -> Outcome:
        outcome: Outcome = await call(*arguments)
        return outcome

    return work
