"""Names a track's sections again by the lyrics, after the other steps of a job."""

import asyncio
from typing import Any

import structlog
from google.protobuf.json_format import MessageToDict, ParseDict

from services.common.errors import StemTubeError
from services.common.jobs.context import JobContext
from services.common.jobs.messages import message_json
from services.download.pipeline.progress import RUNNING, JobProgress
from services.download.pipeline.remote import RemoteJobs
from services.download.pipeline.sent_requests import first_request
from services.download.tables import OwnStem
from services.download.tracks.repository import TrackRepository
from services.download.tracks.results import TrackData
from services.download.tracks.versions import Kept, Versions
from stemtube.analysis.v1 import analysis_pb2, music_pb2

log = structlog.get_logger(__name__)

Outcome = dict[str, Any]


class SectionNaming:
    """Names the sections of a track that the job's user sees.

    Args:
        job: the job.
        job_progress: shows the structure as running again.
        tracks: have the sections, vocals and lyrics.
        versions: stores the names.
        remote: calls the analysis service.
    """

    def __init__(
        self,
        job: JobContext,
        job_progress: JobProgress,
        tracks: TrackRepository,
        versions: Versions,
        remote: RemoteJobs,
    ) -> None:
        self._job = job
        self._progress = job_progress
        self._tracks = tracks
        self._versions = versions
        self._remote = remote
        self._track_id: str = job.payload["track_id"]

    async def run(self, others: list[asyncio.Task[Outcome]]) -> Outcome:
        """Names the sections after the job's other steps.

        The names stay as they are if this fails, or if there are no vocals or no sections.
        """
        ended = [await asyncio.shield(task) for task in others]

        async def make() -> dict[str, Any] | None:
            data = await self._tracks.track(self._track_id, self._job.user)
            computed = await self._tracks.track(self._track_id, self._job.user, computed=True)
            return self._question(data, computed, ended) if data and computed else None

        asked = await first_request(self._job, "names", make)
        if asked is None:
            return {"parts": {}}
        is_part = any("structure" in outcome["parts"] and not outcome["parts"]["structure"] for outcome in ended)
        if is_part:
            # The structure runs again, so that its end is a change that watchers see.
            self._progress.update("structure", RUNNING, stage="naming")
        try:
            await self._ask(asked)
        except StemTubeError as error:
            log.warning("sections cannot be named again", track_id=self._track_id, reason=error.reason)
        if is_part:
            self._progress.succeed("structure")
        return {"parts": {}}

    def _question(self, data: TrackData, computed: TrackData, ended: list[Outcome]) -> dict[str, Any] | None:
        """The request, the sections, and whether the new names are the user's own; None if there is nothing to name.

        The names depend on the vocals and lyrics that the user sees. They are shared only if all of these are shared.
        Shared sections are named again only if this job made a new shared result.
        """
        structure, vocals = computed.analyses.get("structure"), data.vocals
        # Sections of earlier versions have no `level`, which naming needs.
        if not structure or not vocals or not any("level" in found for found in structure["sections"]):
            return None
        is_own = (
            "structure" in computed.own
            or isinstance(vocals, OwnStem)
            or bool({"lyrics"} & (data.own | data.edits.keys()))
        )
        is_new = any(Kept.SHARED in outcome.get("kept", {}).values() for outcome in ended)
        if not is_own and self._job.payload["again"] and not is_new:
            return None
        part = analysis_pb2.PartRequest(
            part=analysis_pb2.PART_STRUCTURE,
            backend=structure["madeBy"]["backend"],
            structure=ParseDict({"sections": structure["sections"]}, music_pb2.Structure()),
        )
        if lyrics := data.analyses.get("lyrics"):
            ParseDict(lyrics, part.lyrics, ignore_unknown_fields=True)
        request = analysis_pb2.CreateAnalysisRequest(
            request_id=f"{self._job.job_id}.names",
            audio_key=vocals.audio_key,
            parts=[part],
            on_behalf_of=self._job.user,
            priority=self._job.payload["priority"],
        )
        known = ParseDict(structure, music_pb2.Structure(), ignore_unknown_fields=True)
        return {"request": message_json(request), "structure": message_json(known), "is_own": is_own}

    async def _ask(self, asked: dict[str, Any]) -> None:
        request = ParseDict(asked["request"], analysis_pb2.CreateAnalysisRequest())
        known = ParseDict(asked["structure"], music_pb2.Structure(), ignore_unknown_fields=True)

        async def keep(analysis: analysis_pb2.Analysis) -> None:
            for status in analysis.parts:
                # Only names may change.
                if _starts(status.structure) == _starts(request.parts[0].structure):
                    renamed = music_pb2.Structure(sections=status.structure.sections, made_by=known.made_by)
                    await self._keep(known, MessageToDict(renamed), is_own=asked["is_own"])

        await self._remote.analyse(request, keep, lambda: None)

    async def _keep(self, before: music_pb2.Structure, content: dict[str, Any], *, is_own: bool) -> None:
        if not is_own:
            await self._versions.rename_sections(self._track_id, before, content)
            return
        await self._versions.keep_part(self._job.user, self._track_id, "structure", content, by_hand=True, again=True)


def _starts(structure: music_pb2.Structure) -> list[float]:
    return [section.start for section in structure.sections]
