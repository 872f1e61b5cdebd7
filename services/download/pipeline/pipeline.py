"""A track's way: its audio is acquired, then separated and analysed side by side, lyrics as soon as vocals exist.

At the end the sections are named anew, by what is sung in them.

One job a request. Each part is a durable step that follows the job of another service and keeps the result the moment
it exists; a part that fails leaves the others alone.
"""

import asyncio
from datetime import timedelta
from typing import Any

import structlog
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from services.common.errors import Code, LimitExceededError, PreconditionError, StemTubeError, UnavailableError
from services.common.jobs.context import JobContext
from services.common.jobs.errors import KeptError, error_detail
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import BATCH, INTERACTIVE
from services.common.jobs.retry import TRANSIENT
from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.kept_stems import keep_stems
from services.download.pipeline.outstanding import Outstanding, names_sections, request_name
from services.download.pipeline.plan import (
    PART_NUMBERS,
    Plan,
    is_analysed_by_hand,
    is_separated_by_hand,
    part_names,
    separation_part,
)
from services.download.pipeline.progress import Board
from services.download.pipeline.remote import RemoteJobs
from services.download.pipeline.section_naming import SectionNaming
from services.download.pipeline.sent_requests import as_first_made
from services.download.tables import OwnStem
from services.download.tracks.repository import Library
from services.download.tracks.versions import Kept, Versions
from services.download.upkeep.trash import Remover
from services.download.upkeep.usage import Usage
from services.download.uploads.acquire import Acquirer, Requester
from stemtube.analysis.v1 import analysis_pb2, music_pb2
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2

log = structlog.get_logger(__name__)

KIND = "track"
# A link's job is submitted within this time of its track.
SUBMITTING = timedelta(minutes=10)
Outcome = dict[str, Any]
# Parts that are made by the beats.
BY_BEATS = ("chords", "structure")


class Pipeline:
    """Handles the jobs of tracks."""

    def __init__(
        self,
        library: Library,
        remover: Remover,
        acquirer: Acquirer,
        usage: Usage,
        remote: RemoteJobs,
        found_lyrics: FoundLyrics,
        versions: Versions,
    ) -> None:
        self._versions = versions
        self._library = library
        self._remover = remover
        self._acquirer = acquirer
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
        board = Board(job, part_names(plan))
        run = _Run(
            job,
            jobs,
            board,
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
                run.board.update("acquire", "queued", stage="waiting to try again")
            else:
                await self._acquirer.forget_partial(run.track_id)
                run.board.fail("acquire", error_detail(error))
                await self.discard_unfetched(jobs, job.job_id, job.user, run.track_id)
            raise
        run.audio_key = acquired["audio_key"]
        run.board.settle({"acquire": None})
        await self._outstanding.note(job.job_id)
        # The steps are started in one order whatever happens: a later attempt finds their outcomes by it.
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
            naming = SectionNaming(job, board, self._library, self._versions, self._remote)
            tasks.append(asyncio.create_task(job.step("names", _later(naming.run, list(tasks)))))
        try:
            outcomes = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        for outcome in outcomes:
            run.board.settle(outcome["parts"])
        await self._outstanding.forget(job.job_id)
        errors = run.board.errors()
        if errors and not run.board.any_succeeded():
            raise _NothingMadeError(errors[0])
        return {}

    async def discard_unfetched(self, jobs: JobQueue, job_id: str, user: str, track_id: str) -> None:
        """Takes a track whose audio will not arrive from the user of a job that has ended without it.

        Another user keeps it, and so does this one if another job of theirs still waits for the audio.
        """
        waiting = [record for record in await jobs.unfinished(user) if record.subject == track_id]
        if all(record.id == job_id for record in waiting):
            await self._library.discard_unfetched(user, track_id)
            await self._acquirer.forget_idle_partial(track_id)

    async def discard_given_up(self, jobs: JobQueue) -> None:
        """Discards tracks that wait for audio which no job is about to bring: its worker died, again and again."""
        for track_id in await self._library.unfetched(SUBMITTING):
            for user in await self._library.users_of(track_id):
                await self.discard_unfetched(jobs, "", user, track_id)

    async def _acquire(self, run: "_Run") -> Outcome:
        payload = run.job.payload
        lane = BATCH if payload["priority"] == job_pb2.PRIORITY_BATCH else INTERACTIVE
        # Earlier versions asked for no cookies.
        requester = Requester(run.job.user, lane, payload.get("use_cookies", False))
        async with self._usage.held(run.job.user) as room:
            audio_key = await self._acquirer.acquire(
                run.track_id,
                requester,
                lambda stage, done, **news: run.board.update("acquire", "running", progress=done, stage=stage, **news),
                lambda: run.board.update("acquire", "queued", stage="waiting for other links"),
                room.settle,
                room.id,
            )
        run.board.succeed("acquire")
        return {"audio_key": audio_key}


class _Run:
    """One attempt at one job."""

    def __init__(
        self,
        job: JobContext,
        jobs: JobQueue,
        board: Board,
        library: Library,
        remover: Remover,
        usage: Usage,
        remote: RemoteJobs,
        found_lyrics: FoundLyrics,
        versions: Versions,
        outstanding: Outstanding,
    ) -> None:
        self.job = job
        self.board = board
        self.track_id: str = job.payload["track_id"]
        self.audio_key = ""
        self._jobs = jobs
        self._library = library
        self._remover = remover
        self._usage = usage
        self._remote = remote
        self._found_lyrics = found_lyrics
        self._versions = versions
        # Jobs of earlier versions do not tell.
        self._again: bool = job.payload.get("again", True)
        self._outstanding = outstanding

    async def separate(self, number: int, choice: dict[str, Any]) -> Outcome:
        """Has the mix separated and keeps the stems."""
        part = separation_part(number)
        request = separation_pb2.CreateSeparationRequest(
            request_id=f"{self.job.job_id}.{request_name(part)}",
            audio_key=self.audio_key,
            model=choice["model"],
            stems=choice["stems"],
            quality=choice["quality"],
            rest=choice["rest"],
            shifts=choice["shifts"],
            overlap=choice["overlap"],
            on_behalf_of=self.job.user,
            priority=self.job.payload["priority"],
        )

        async def show(separation: separation_pb2.Separation) -> None:
            live = _as_dict(separation.live) if separation.HasField("live") else None
            self.board.show_remote(part, separation.job, live)

        try:
            # A full quota is told before anything is computed.
            await self._usage.expect_room(self.job.user)
            try:
                async with self._outstanding.given_up_on_error(self.job.job_id, request_name(part)):
                    separation = await self._remote.separate(request, show, lambda: self._show_waiting(part))
                _expect_success(separation.job)
            except StemTubeError as error:
                return {"stems": {}, "parts": self._failed([part], error)}
            result = await keep_stems(
                self._versions,
                self._usage,
                self.job.user,
                self.track_id,
                separation,
                by_hand=is_separated_by_hand(choice),
                again=self._again,
            )
        except LimitExceededError as error:
            return {"stems": {}, "parts": self._failed([part], error)}
        if gone := await self._remover.missing(stem.audio_key for stem in separation.stems):
            # Withdrawn meanwhile, from somewhere else: nobody was found to need them.
            await self._library.drop_stems(self.track_id, gone)
            missing = UnavailableError("The stems are not in the object store.", "STEMS_MISSING")
            return {"stems": {}, "parts": self._failed([part], missing)}
        if await self._library.track(self.track_id) is None:
            await self._outstanding.give_up(self.job.job_id, request_name(part))
        # Another job may be listening to the former vocals: the sweep removes them then.
        if not any(job.subject == self.track_id and job.id != self.job.job_id for job in await self._jobs.unfinished()):
            await self._remover.remove(result.replaced)
        self.board.succeed(part)
        keys = {stem.name: stem.audio_key for stem in separation.stems}
        return {"stems": keys, "parts": {part: None}, "kept": {part: result.kept}}

    async def analyse(self, audio_key: str, choices: list[dict[str, Any]], is_own_audio: bool = False) -> Outcome:
        """Has audio analysed and keeps each part the moment it is there."""
        names = [choice["part"] for choice in choices]

        async def make() -> dict[str, Any]:
            return await self._analysis(audio_key, choices, is_own_audio)

        asked = await as_first_made(self.job, request_name(names[0]), make) or {}
        request = ParseDict(asked["request"], analysis_pb2.CreateAnalysisRequest())
        kept: dict[str, Kept] = {}
        ended: dict[str, dict[str, Any] | None] = {}

        async def keep(analysis: analysis_pb2.Analysis) -> None:
            for status in analysis.parts:
                name = PART_NAMES[status.part]
                result = status.WhichOneof("result")
                if name in ended:
                    continue
                if result:
                    content = MessageToDict(getattr(status, result))
                    kept[name] = await self._versions.keep_part(
                        self.job.user, self.track_id, name, content, by_hand=name in asked["own"], again=self._again
                    )
                    ended[name] = None
                    self.board.succeed(name)
                elif status.state == job_pb2.JOB_STATE_FAILED:
                    ended[name] = _as_dict(status.error)
                    self.board.fail(name, ended[name] or {})
                else:
                    self._show_part(name, analysis.job, status)

        def show_waiting() -> None:
            for name in names:
                if name not in ended:
                    self._show_waiting(name)

        try:
            analysis = await self._remote.analyse(request, keep, show_waiting)
            _expect_success(analysis.job)
        except StemTubeError as error:
            ended |= self._failed([name for name in names if name not in ended], error)
        return {"parts": ended, "kept": kept}

    async def _analysis(self, audio_key: str, choices: list[dict[str, Any]], is_own_audio: bool) -> dict[str, Any]:
        """The request for parts, and the names of those that are the user's own whatever comes out (`versions`)."""
        by_hand = {choice["part"] for choice in choices if is_own_audio or is_analysed_by_hand(choice)}
        own = set(by_hand)
        parts = []
        for choice in choices:
            name = choice["part"]
            beats, are_own_beats = await self._known_beats(choice, {choice["part"] for choice in choices})
            if name in BY_BEATS and (are_own_beats or "beats" in by_hand):
                own.add(name)
            parts.append(
                analysis_pb2.PartRequest(
                    part=PART_NUMBERS[name],
                    beats=beats,
                    backend=choice["backend"],
                    model=choice["model"],
                    language=choice["language"],
                    # Plans of earlier versions have no text.
                    text=choice.get("text", ""),
                    mix_key=self.audio_key if name == "lyrics" else "",
                    found_text=await self._found_text(choice),
                )
            )
        request = analysis_pb2.CreateAnalysisRequest(
            request_id=f"{self.job.job_id}.{request_name(choices[0]['part'])}",
            audio_key=audio_key,
            parts=parts,
            on_behalf_of=self.job.user,
            priority=self.job.payload["priority"],
        )
        return {"request": MessageToDict(request), "own": sorted(own)}

    async def transcribe(self, separations: list[asyncio.Task[Outcome]], choices: list[dict[str, Any]]) -> Outcome:
        """Has the lyrics made from the vocals that this job separates, else from those that the user has."""
        for separation in separations:
            outcome = await asyncio.shield(separation)
            if vocals := outcome["stems"].get("vocals"):
                return await self.analyse(vocals, choices, Kept.OWN in outcome.get("kept", {}).values())
        data = await self._library.track(self.track_id, self.job.user)
        if data is None or data.vocals is None:
            error = PreconditionError("Lyrics are made from the vocals stem, and there is none.", "NO_VOCALS_STEM")
            return {"parts": self._failed(["lyrics"], error)}
        return await self.analyse(data.vocals.audio_key, choices, isinstance(data.vocals, OwnStem))

    async def _known_beats(self, choice: dict[str, Any], names: set[str]) -> tuple[music_pb2.Beats | None, bool]:
        """The beats that the user has, for a part that goes by them and is made without them; whether they are own."""
        data = await self._library.track(self.track_id, self.job.user) if choice["part"] in BY_BEATS else None
        if data is None or "beats" in names or not data.analyses.get("beats", {}).get("beats"):
            return None, False
        beats = ParseDict(data.analyses["beats"], music_pb2.Beats(), ignore_unknown_fields=True)
        return beats, "beats" in data.own or "beats" in data.edits

    async def _found_text(self, choice: dict[str, Any]) -> str:
        """Words that others have written down for the track, where lyrics are wanted whose words nobody has given."""
        data = await self._library.track(self.track_id) if choice["part"] == "lyrics" else None
        if data is None or choice.get("text"):
            return ""
        track = data.track
        return await self._found_lyrics.find(track.title, track.artist, track.duration_seconds or 0.0)

    def _failed(self, names: list[str], error: StemTubeError) -> dict[str, dict[str, Any] | None]:
        detail = error_detail(error)
        for name in names:
            self.board.fail(name, detail)
        return dict.fromkeys(names, detail)

    def _show_part(self, name: str, job: job_pb2.Job, status: analysis_pb2.PartStatus) -> None:
        if status.state == job_pb2.JOB_STATE_RUNNING:
            self.board.update(name, "running", progress=status.progress, stage=job.stage)
        elif job.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING):
            self.board.update(name, "queued", queue_position=job.queue_position)

    def _show_waiting(self, part: str) -> None:
        service = "separation" if part.startswith("separation") else "analysis"
        self.board.update(part, "queued", stage=f"waiting for the {service} service")


PART_NAMES = {number: name for name, number in PART_NUMBERS.items()}


class _NothingMadeError(KeptError):
    """The error of a part as the end of a job that made nothing.

    The other services have tried as often as they do, and would answer the same requests with the same failed jobs:
    an error that is transient of the part is final of the job.
    """

    def __init__(self, detail: dict[str, Any]) -> None:
        super().__init__(detail)
        if self.code in TRANSIENT:
            self.code = Code.FAILED_PRECONDITION


def _as_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _later(call: Any, *arguments: Any) -> Any:
    """A step's work: a coroutine function without arguments."""

    async def work() -> Outcome:
        outcome: Outcome = await call(*arguments)
        return outcome

    return work


def _expect_success(job: job_pb2.Job) -> None:
    if job.state == job_pb2.JOB_STATE_FAILED:
        raise KeptError(_as_dict(job.error))
    if job.state == job_pb2.JOB_STATE_CANCELLED:
        raise PreconditionError("The work was cancelled.", "CANCELLED")
