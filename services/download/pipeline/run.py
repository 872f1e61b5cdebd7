"""One attempt at a track's job: each step asks another service to make parts, and stores the results."""

import asyncio
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from services.common.errors import LimitExceededError, PreconditionError, StemTubeError, UnavailableError
from services.common.jobs.context import JobContext
from services.common.jobs.errors import KeptError, error_detail
from services.common.jobs.messages import message_json
from services.common.jobs.retry import TRANSIENT
from services.common.jobs.states import FINISHED_NUMBERS
from services.common.parts import PART_NAMES, PART_NUMBERS, USES_BEATS
from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.kept_stems import keep_stems
from services.download.pipeline.outstanding import request_name
from services.download.pipeline.plan import (
    is_analysed_by_hand,
    is_separated_by_hand,
    separation_part,
)
from services.download.pipeline.progress import QUEUED, RUNNING, JobProgress
from services.download.pipeline.remote import RemoteJobs
from services.download.pipeline.sent_requests import first_request
from services.download.tables import OwnStem
from services.download.tracks.repository import TrackRepository
from services.download.tracks.versions import Kept, Versions
from services.download.upkeep.trash import Remover
from services.download.upkeep.usage import Usage
from stemtube.analysis.v1 import analysis_pb2, music_pb2
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2

Outcome = dict[str, Any]


class Run:
    """One attempt at one job."""

    def __init__(
        self,
        job: JobContext,
        job_progress: JobProgress,
        tracks: TrackRepository,
        remover: Remover,
        usage: Usage,
        remote: RemoteJobs,
        found_lyrics: FoundLyrics,
        versions: Versions,
    ) -> None:
        self.job = job
        self.progress = job_progress
        self.track_id: str = job.payload["track_id"]
        self.audio_key = ""
        self._tracks = tracks
        self._remover = remover
        self._usage = usage
        self._remote = remote
        self._found_lyrics = found_lyrics
        self._versions = versions
        self._again: bool = job.payload["again"]

    async def separate(self, number: int, choice: dict[str, Any]) -> Outcome:
        """Has the mix separated and stores the stems; the outcome says whether the service may drop its result."""
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
            live = separation.live if separation.HasField("live") else None
            self.progress.show_remote(part, separation.job, live)

        try:
            # A full quota is reported before anything is computed.
            await self._usage.expect_room(self.job.user)
            try:
                separation = await self._remote.separate(request, show, lambda: self._show_waiting(part))
                _expect_success(separation.job)
            except StemTubeError as error:
                _expect_lasting(error)
                return self._without_stems(part, error)
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
            return self._without_stems(part, error)
        await self._remover.remove(result.replaced)
        gone = await self._remover.missing(stem.audio_key for stem in separation.stems)
        # Stems that another job has replaced are not dropped.
        if gone and (dropped := await self._tracks.drop_stems(self.track_id, gone)):
            # The separation was withdrawn elsewhere, while no track needed its stems.
            await self._remover.remove(dropped)
            missing = UnavailableError("The stems are not in the object store.", "STEMS_MISSING")
            return {"stems": {}, "parts": self._failed([part], missing)}
        self.progress.succeed(part)
        keys = {stem.name: stem.audio_key for stem in separation.stems}
        unneeded = result.kept is Kept.NOT
        return {"stems": keys, "parts": {part: None}, "kept": {part: result.kept}, "unneeded": unneeded}

    def _without_stems(self, part: str, error: StemTubeError) -> Outcome:
        """The outcome of a separation without stems for the track; the service may have made some."""
        return {"stems": {}, "parts": self._failed([part], error), "unneeded": True}

    async def analyse(self, audio_key: str, choices: list[dict[str, Any]], is_own_audio: bool = False) -> Outcome:
        """Has audio analysed and stores each part as soon as it exists."""
        names = [choice["part"] for choice in choices]

        async def make() -> dict[str, Any]:
            return await self._analysis(audio_key, choices, is_own_audio)

        asked = await first_request(self.job, request_name(names[0]), make) or {}
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
                    self.progress.succeed(name)
                elif status.state == job_pb2.JOB_STATE_FAILED:
                    ended[name] = message_json(status.error)
                    self.progress.fail(name, ended[name] or {})
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
            _expect_lasting(error)
            ended |= self._failed([name for name in names if name not in ended], error)
        return {"parts": ended, "kept": kept}

    async def _analysis(self, audio_key: str, choices: list[dict[str, Any]], is_own_audio: bool) -> dict[str, Any]:
        """The request for parts, and the names of the parts whose results are the user's own (see `versions`)."""
        by_hand = {choice["part"] for choice in choices if is_own_audio or is_analysed_by_hand(choice)}
        own = set(by_hand)
        parts = []
        for choice in choices:
            name = choice["part"]
            beats, are_own_beats = await self._known_beats(choice, {choice["part"] for choice in choices})
            if name in USES_BEATS and (are_own_beats or "beats" in by_hand):
                own.add(name)
            parts.append(
                analysis_pb2.PartRequest(
                    part=PART_NUMBERS[name],
                    beats=beats,
                    backend=choice["backend"],
                    model=choice["model"],
                    language=choice["language"],
                    text=choice["text"],
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
        return {"request": message_json(request), "own": sorted(own)}

    async def transcribe(self, separations: list[asyncio.Task[Outcome]], choices: list[dict[str, Any]]) -> Outcome:
        """Has lyrics made from the vocals that this job separates, or else from the vocals that the user has."""

        async def make() -> dict[str, Any] | None:
            return await self._vocals(separations)

        vocals = await first_request(self.job, "vocals", make)
        if vocals is None:
            error = PreconditionError("Lyrics are made from the vocals stem, and there is none.", "NO_VOCALS_STEM")
            return {"parts": self._failed(["lyrics"], error)}
        return await self.analyse(vocals["audio_key"], choices, vocals["own"])

    async def _vocals(self, separations: list[asyncio.Task[Outcome]]) -> dict[str, Any] | None:
        """The key of vocals, which are kept until the job has ended, and whether they are the user's own."""
        for separation in separations:
            outcome = await asyncio.shield(separation)
            key = outcome["stems"].get("vocals")
            # Another job may have replaced them already.
            if key and await self._tracks.hold_vocals(self.job.job_id, key):
                return {"audio_key": key, "own": Kept.OWN in outcome.get("kept", {}).values()}
        while (data := await self._tracks.track(self.track_id, self.job.user)) and data.vocals:
            if await self._tracks.hold_vocals(self.job.job_id, data.vocals.audio_key):
                return {"audio_key": data.vocals.audio_key, "own": isinstance(data.vocals, OwnStem)}
        return None

    async def _known_beats(self, choice: dict[str, Any], names: set[str]) -> tuple[music_pb2.Beats | None, bool]:
        """The user's beats for a part that uses them, unless the request makes beats; and whether they are own."""
        data = await self._tracks.track(self.track_id, self.job.user) if choice["part"] in USES_BEATS else None
        if data is None or "beats" in names or not data.analyses.get("beats", {}).get("beats"):
            return None, False
        beats = ParseDict(data.analyses["beats"], music_pb2.Beats(), ignore_unknown_fields=True)
        return beats, "beats" in data.own or "beats" in data.edits

    async def _found_text(self, choice: dict[str, Any]) -> str:
        """Words from a lyrics site for lyrics without a given text; empty for other parts."""
        data = await self._tracks.track(self.track_id) if choice["part"] == "lyrics" else None
        if data is None or choice["text"]:
            return ""
        track = data.track
        return await self._found_lyrics.find(track.title, track.artist, track.duration_seconds or 0.0)

    def _failed(self, names: list[str], error: StemTubeError) -> dict[str, dict[str, Any] | None]:
        detail = error_detail(error)
        for name in names:
            self.progress.fail(name, detail)
        return dict.fromkeys(names, detail)

    def _show_part(self, name: str, job: job_pb2.Job, status: analysis_pb2.PartStatus) -> None:
        if status.state == job_pb2.JOB_STATE_RUNNING:
            self.progress.update(name, RUNNING, progress=status.progress, stage=job.stage)
        elif job.state not in FINISHED_NUMBERS:
            self.progress.update(name, QUEUED, queue_position=job.queue_position)

    def _show_waiting(self, part: str) -> None:
        service = "separation" if part.startswith("separation") else "analysis"
        self.progress.update(part, QUEUED, stage=f"waiting for the {service} service")


def _expect_lasting(error: StemTubeError) -> None:
    """Raises a transient error of this process, after which the step is run again; those of the service's job last."""
    if error.code in TRANSIENT and not isinstance(error, KeptError):
        raise error


def _expect_success(job: job_pb2.Job) -> None:
    if job.state == job_pb2.JOB_STATE_FAILED:
        raise KeptError(message_json(job.error))
    if job.state == job_pb2.JOB_STATE_CANCELLED:
        raise PreconditionError("The work was cancelled.", "CANCELLED")
