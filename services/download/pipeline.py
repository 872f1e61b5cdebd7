"""A track's way: its audio is acquired, then separated and analysed side by side, lyrics as soon as vocals exist.

At the end the sections are named anew, by what is sung in them.

One job a request. Each part is a durable step that follows the job of another service and keeps the result the moment
it exists; a part that fails leaves the others alone.
"""

import asyncio
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from services.common.errors import Code, PreconditionError, StemTubeError, UnavailableError
from services.common.jobs import MAX_DEATHS, MAX_RETRIES, TRANSIENT, JobContext, JobQueue, KeptError, error_detail
from services.download.acquire import Acquirer
from services.download.board import Board
from services.download.found_lyrics import FoundLyrics
from services.download.options import PART_NUMBERS, Plan, part_names, separation_part
from services.download.outstanding import Outstanding, names_sections, request_name
from services.download.remote import RemoteJobs
from services.download.removal import Remover
from services.download.store import Library
from services.download.usage import Usage
from stemtube.analysis.v1 import analysis_pb2, music_pb2
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2

log = structlog.get_logger(__name__)

KIND = "track"
# A link's job is submitted within this time of its track.
SUBMITTING = timedelta(minutes=10)
Outcome = dict[str, Any]


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
    ) -> None:
        self._library = library
        self._remover = remover
        self._acquirer = acquirer
        self._usage = usage
        self._remote = remote
        self._found_lyrics = found_lyrics
        outstanding = self._outstanding = Outstanding(library, remover, remote)
        self.withdraw = outstanding.withdraw
        self.withdraw_outstanding = outstanding.withdraw_all
        self._tries: WeakKeyDictionary[JobContext, int] = WeakKeyDictionary()

    async def handle(self, job: JobContext, jobs: JobQueue) -> Outcome:
        """Runs one job to its end; the queue calls again with the same job after a transient error."""
        structlog.contextvars.bind_contextvars(track=job.payload["track_id"])
        plan: Plan = job.payload["plan"]
        self._tries[job] = self._tries.get(job, 0) + 1
        board = Board(job, part_names(plan))
        run = _Run(
            job,
            jobs,
            board,
            job.payload["track_id"],
            self._library,
            self._remover,
            self._remote,
            self._found_lyrics,
            self._outstanding,
        )
        try:
            acquired = await job.step("acquire", lambda: self._acquire(run))
        except StemTubeError as error:
            if self._is_final(job, error):
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
            tasks.append(asyncio.create_task(job.step("names", _later(run.name_sections, list(tasks)))))
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

    async def discard_given_up(self, jobs: JobQueue) -> None:
        """Discards tracks that wait for audio which no job is about to bring: its worker died, again and again."""
        for track_id in await self._library.unfetched(SUBMITTING):
            for user in await self._library.users_of(track_id):
                await self.discard_unfetched(jobs, "", user, track_id)

    def _is_final(self, job: JobContext, error: StemTubeError) -> bool:
        """Whether the queue lets a job end with this error rather than try it again."""
        tries = MAX_DEATHS if error.reason == "WORKER_DIED" else MAX_RETRIES + 1
        return error.code not in TRANSIENT or self._tries[job] >= tries

    async def _acquire(self, run: "_Run") -> Outcome:
        audio_key = await self._acquirer.acquire(
            run.track_id,
            lambda stage, done, **news: run.board.update("acquire", "running", progress=done, stage=stage, **news),
            lambda size: self._usage.expect_room(run.job.user, size),
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
        track_id: str,
        library: Library,
        remover: Remover,
        remote: RemoteJobs,
        found_lyrics: FoundLyrics,
        outstanding: Outstanding,
    ) -> None:
        self.job = job
        self.board = board
        self.track_id = track_id
        self.audio_key = ""
        self._jobs = jobs
        self._library = library
        self._remover = remover
        self._remote = remote
        self._found_lyrics = found_lyrics
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
            async with self._outstanding.given_up_on_error(self.job.job_id, request_name(part)):
                separation = await self._remote.separate(request, show, lambda: self._show_waiting(part))
            _expect_success(separation.job)
        except StemTubeError as error:
            return {"stems": {}, "parts": self._failed([part], error)}
        stems = [_as_dict(stem) for stem in separation.stems]
        made_by = MessageToDict(separation.made_by)
        replaced = await self._library.set_stems(self.track_id, separation.model, stems, made_by)
        if gone := await self._remover.missing(stem["audio_key"] for stem in stems):
            # Withdrawn meanwhile, from somewhere else: nobody was found to need them.
            await self._library.drop_stems(self.track_id, gone)
            missing = UnavailableError("The stems are not in the object store.", "STEMS_MISSING")
            return {"stems": {}, "parts": self._failed([part], missing)}
        if await self._library.track(self.track_id) is None:
            await self._outstanding.give_up(self.job.job_id, request_name(part))
        # Another job may be listening to the former vocals: the sweep removes them then.
        if not any(job.subject == self.track_id and job.id != self.job.job_id for job in await self._jobs.unfinished()):
            await self._remover.remove(replaced)
        self.board.succeed(part)
        return {"stems": {stem.name: stem.audio_key for stem in separation.stems}, "parts": {part: None}}

    async def analyse(self, audio_key: str, choices: list[dict[str, Any]]) -> Outcome:
        """Has audio analysed and keeps each part the moment it is there."""
        names = [choice["part"] for choice in choices]
        request = analysis_pb2.CreateAnalysisRequest(
            request_id=f"{self.job.job_id}.{request_name(names[0])}",
            audio_key=audio_key,
            parts=[
                analysis_pb2.PartRequest(
                    part=PART_NUMBERS[choice["part"]],
                    beats=await self._known_beats(choice, names),
                    backend=choice["backend"],
                    model=choice["model"],
                    language=choice["language"],
                    # Plans of earlier versions have no text.
                    text=choice.get("text", ""),
                    mix_key=self.audio_key if choice["part"] == "lyrics" else "",
                    found_text=await self._found_text(choice),
                )
                for choice in choices
            ],
            on_behalf_of=self.job.user,
            priority=self.job.payload["priority"],
        )
        ended: dict[str, dict[str, Any] | None] = {}

        async def keep(analysis: analysis_pb2.Analysis) -> None:
            for status in analysis.parts:
                name = PART_NAMES[status.part]
                result = status.WhichOneof("result")
                if name in ended:
                    continue
                if result:
                    content = MessageToDict(getattr(status, result))
                    await self._library.set_analysis(self.track_id, name, content)
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
        return {"parts": ended}

    async def transcribe(self, separations: list[asyncio.Task[Outcome]], choices: list[dict[str, Any]]) -> Outcome:
        """Has the lyrics made from the vocals that this job separates, else from those the track has."""
        for separation in separations:
            if vocals := (await asyncio.shield(separation))["stems"].get("vocals"):
                return await self.analyse(vocals, choices)
        data = await self._library.track(self.track_id)
        vocals = next((stem.audio_key for stem in data.stems if stem.name == "vocals"), None) if data else None
        if vocals is None:
            error = PreconditionError("Lyrics are made from the vocals stem, and there is none.", "NO_VOCALS_STEM")
            return {"parts": self._failed(["lyrics"], error)}
        return await self.analyse(vocals, choices)

    async def _known_beats(self, choice: dict[str, Any], names: list[str]) -> music_pb2.Beats | None:
        """The track's beats, for a part that goes by them and is made without them."""
        data = await self._library.track(self.track_id) if choice["part"] in ("chords", "structure") else None
        if data is None or "beats" in names or not data.analyses.get("beats", {}).get("beats"):
            return None
        return ParseDict(data.analyses["beats"], music_pb2.Beats(), ignore_unknown_fields=True)

    async def _found_text(self, choice: dict[str, Any]) -> str:
        """Words that others have written down for the track, where lyrics are wanted whose words nobody has given."""
        data = await self._library.track(self.track_id) if choice["part"] == "lyrics" else None
        if data is None or choice.get("text"):
            return ""
        track = data.track
        return await self._found_lyrics.find(track.title, track.artist, track.duration_seconds or 0.0)

    async def name_sections(self, others: list[asyncio.Task[Outcome]]) -> Outcome:
        """Has the track's sections named anew by the singing, once all else of the job has ended.

        They are what they were if that fails, or if vocals or sections are not there.
        """
        ended = [await asyncio.shield(task) for task in others]
        data = await self._library.track(self.track_id)
        structure = data.analyses.get("structure") if data else None
        vocals = next((stem.audio_key for stem in data.stems if stem.name == "vocals"), None) if data else None
        # Earlier versions did not keep what the names go by.
        if not data or not structure or not vocals or not any("level" in found for found in structure["sections"]):
            return {"parts": {}}
        is_part = any("structure" in outcome["parts"] and not outcome["parts"]["structure"] for outcome in ended)
        part = analysis_pb2.PartRequest(
            part=analysis_pb2.PART_STRUCTURE,
            backend=structure["madeBy"]["backend"],
            structure=ParseDict({"sections": structure["sections"]}, music_pb2.Structure()),
        )
        if lyrics := data.analyses.get("lyrics"):
            ParseDict(lyrics, part.lyrics, ignore_unknown_fields=True)
        request = analysis_pb2.CreateAnalysisRequest(
            request_id=f"{self.job.job_id}.names",
            audio_key=vocals,
            parts=[part],
            on_behalf_of=self.job.user,
            priority=self.job.payload["priority"],
        )

        async def keep(analysis: analysis_pb2.Analysis) -> None:
            for status in analysis.parts:
                # An analysis of an earlier version would divide the vocals instead.
                if _starts(status.structure) == _starts(part.structure):
                    content = MessageToDict(status.structure) | {"madeBy": structure["madeBy"]}
                    await self._library.set_analysis(self.track_id, "structure", content)

        if is_part:
            # Not done any more, so that its end is news once more.
            self.board.update("structure", "running", stage="naming")
        try:
            await self._remote.analyse(request, keep, lambda: None)
        except StemTubeError as error:
            log.warning("sections keep their names", track_id=self.track_id, reason=error.reason)
        if is_part:
            self.board.succeed("structure")
        return {"parts": {}}

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
        self.board.update(part, "queued", stage="waiting for the service")


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


def _starts(structure: music_pb2.Structure) -> list[float]:
    return [section.start for section in structure.sections]


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
