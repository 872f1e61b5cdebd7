"""Processes a track: acquires its audio, then separates and analyses it in parallel.

Lyrics begin when the vocals exist. At the end the sections get new names from the lyrics.

Each request is one job. Each part is a durable step, which follows a job of another service and stores the result as
soon as it exists. A part that fails does not affect the others.
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
from services.download.pipeline.outstanding import Outstanding, names_sections, request_name
from services.download.pipeline.plan import Plan, complete, part_names, separation_part
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
# The job of a link is submitted within this time after its track was added.
SUBMITTING_SECONDS = 600.0


class Pipeline:
    """Runs the jobs of tracks."""

    def __init__(
        self,
        tracks: TrackRepository,
        remover: Remover,
        links: LinkFetcher,
        usage: Usage,
        remote: RemoteJobs,
        found_lyrics: FoundLyrics,
        versions: Versions,
    ) -> None:
        self._versions = versions
        self._unfetched: Unchanged[str, str] = Unchanged()
        self._tracks = tracks
        self._remover = remover
        self._links = links
        self._usage = usage
        self._remote = remote
        self._found_lyrics = found_lyrics
        outstanding = self._outstanding = Outstanding(tracks, remover, remote)
        self.withdraw = outstanding.withdraw
        self.withdraw_outstanding = outstanding.withdraw_all

    async def handle(self, job: JobContext, jobs: JobQueue) -> Outcome:
        """Runs one job to its end; the queue calls again with the same job after a transient error."""
        job.payload = complete(job.payload)
        structlog.contextvars.bind_contextvars(track_id=job.payload["track_id"])
        plan: Plan = job.payload["plan"]
        job_progress = JobProgress(job, part_names(plan))
        run = Run(
            job,
            job_progress,
            self._tracks,
            self._remover,
            self._usage,
            self._remote,
            self._found_lyrics,
            self._versions,
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
        run.progress.show_ended({"acquire": None})
        await self._outstanding.note(job.job_id)
        separations = [
            asyncio.create_task(self._separate(run, number, choice))
            for number, choice in enumerate(plan["separations"])
        ]
        mix = [choice for choice in plan["analyses"] if choice["part"] != "lyrics"]
        lyrics = [choice for choice in plan["analyses"] if choice["part"] == "lyrics"]
        analyses = [asyncio.create_task(job.step("mix", _later(run.analyse, run.audio_key, mix)))] if mix else []
        if lyrics:
            analyses.append(asyncio.create_task(job.step("lyrics", _later(run.transcribe, separations, lyrics))))
        tasks = [*separations, *analyses]
        if names_sections(plan):
            naming = SectionNaming(job, job_progress, self._tracks, self._versions, self._remote)
            tasks.append(asyncio.create_task(job.step("names", _later(naming.run, list(tasks)))))
        try:
            outcomes = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        for outcome in outcomes:
            run.progress.show_ended(outcome["parts"])
        if all(outcome.get("withdrawn", True) for outcome in outcomes):
            await self._outstanding.forget(job.job_id)
        errors = run.progress.errors()
        if errors and not run.progress.any_succeeded():
            raise _NothingMadeError(errors[0])
        return {}

    async def discard_unfetched(self, jobs: JobQueue, job_id: str, user: str, track_id: str) -> None:
        """Removes a track whose audio has not arrived from the tracks of a user, after a job of this user has ended.

        Other users keep the track. So does this user, if another job of theirs still waits for the audio.
        """
        if not await jobs.subjects_in_work([track_id], user=user, besides=job_id):
            await self._tracks.discard_unfetched(user, track_id)
            await self._links.forget_idle_partial(track_id)

    async def discard_abandoned(self, jobs: JobQueue) -> None:
        """Discards tracks without audio that have no unfinished job, because its worker died too often."""
        unfetched = dict.fromkeys(await self._tracks.unfetched(), "")
        for track_id in self._unfetched.since(unfetched, SUBMITTING_SECONDS):
            for user in await self._tracks.users_of(track_id):
                await self.discard_unfetched(jobs, "", user, track_id)

    async def _separate(self, run: Run, number: int, choice: dict[str, Any]) -> Outcome:
        """Runs the step of a separation; then withdraws its request if nobody needs the result."""
        part = separation_part(number)
        outcome = await run.job.step(part, lambda: run.separate(number, choice))
        if not outcome.get("unneeded"):
            return outcome
        # Only now that the outcome is stored: an attempt that repeated the step would find its request withdrawn.
        return outcome | {"withdrawn": await self._outstanding.withdraw_request(run.job.job_id, request_name(part))}

    async def _acquire(self, run: Run) -> Outcome:
        payload = run.job.payload
        lane = BATCH if payload["priority"] == job_pb2.PRIORITY_BATCH else INTERACTIVE
        requester = Requester(run.job.user, lane, payload["use_cookies"])
        async with self._usage.held(run.job.user) as room:
            audio_key = await self._links.acquire(
                run.track_id,
                requester,
                lambda stage, done, **news: run.progress.update("acquire", RUNNING, progress=done, stage=stage, **news),
                lambda: run.progress.update("acquire", QUEUED, stage="waiting for other links"),
                room.set_size,
                room.id,
            )
        run.progress.succeed("acquire")
        return {"audio_key": audio_key}


class _NothingMadeError(KeptError):
    """The error of a job that made nothing, from one of its parts.

    A transient error of a part is final for the job: the other service has retried already, and would answer the same
    request with the same failed job.
    """

    def __init__(self, detail: dict[str, Any]) -> None:
        super().__init__(detail)
        if self.code in TRANSIENT:
            self.code = Code.FAILED_PRECONDITION


def _later(call: Any, *arguments: Any) -> Any:
    """Makes a coroutine function without arguments, as steps need it."""

    async def work() -> Outcome:
        outcome: Outcome = await call(*arguments)
        return outcome

    return work
