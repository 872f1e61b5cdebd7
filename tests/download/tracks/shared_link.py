"""A link of two users, and stand-ins for services whose results depend on the request."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from services.common.jobs.queue import job_key
from services.common.parts import PART_NAMES
from services.download.pipeline.plan import make_plan
from services.download.tracks.messages import track_message
from services.download.tracks.repository import AudioFacts, SongFacts
from services.download.tracks.results import TrackData
from stemtube.analysis.v1 import analysis_pb2
from stemtube.common.v1 import provenance_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2
from tests.download.conftest import RunningLibrary

Options = dict[str, Any]


class Services:
    """Stands for separation and analysis. Results differ for different requests and for different `version`s."""

    def __init__(self, library: RunningLibrary) -> None:
        self._objects = library.objects
        self._separations: dict[str, separation_pb2.Separation] = {}
        self.version = 1
        self.analyses: list[analysis_pb2.CreateAnalysisRequest] = []

    async def separate(self, request: Any, _on_update: Any, _on_away: Any) -> separation_pb2.Separation:
        names = request.stems or ["vocals", "accompaniment"]
        folder = f"stems/{self._fingerprint(request)}"
        for name in names:
            await self._objects.put(f"{folder}/{name}", name.encode() * 100)
            await self._objects.put(f"{folder}/{name}.peaks", b"peaks")
        made = self._separations[request.request_id] = separation_pb2.Separation(
            job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED),
            model="spleeter" if request.model == "auto" else request.model,
            stems=[
                separation_pb2.Stem(
                    name=name, audio_key=f"{folder}/{name}", peaks_key=f"{folder}/{name}.peaks", duration_seconds=2.0
                )
                for name in names
            ],
        )
        return made

    async def cancel(self, _part: str, request_id: str) -> list[str]:
        given_up = self._separations.pop(request_id)
        return [key for stem in given_up.stems for key in (stem.audio_key, stem.peaks_key)]

    async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
        self.analyses.append(request)
        statuses = [self._part(request, part) for part in request.parts]
        analysis = analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED), parts=statuses)
        await on_update(analysis)
        return analysis

    def _part(self, request: Any, part: analysis_pb2.PartRequest) -> analysis_pb2.PartStatus:
        status = analysis_pb2.PartStatus(part=part.part, state=job_pb2.JOB_STATE_SUCCEEDED)
        mark = self._fingerprint(part, request.audio_key)
        maker = provenance_pb2.Provenance(backend=part.backend, version=mark)
        name = PART_NAMES[part.part]
        getattr(status, name).made_by.CopyFrom(maker)
        match name:
            case "beats":
                status.beats.tempo.bpm = 60.0 + int(mark[:2], 16)
                status.beats.beats.add(time=int(mark[:2], 16) / 256, position=1)
            case "key":
                status.key.tonic, status.key.mode = "C", "minor"
            case "structure":
                words = part.lyrics.lines[0].text if part.lyrics.lines else "nobody"
                label = f"sung by {words} to {request.audio_key}" if part.HasField("structure") else "A"
                status.structure.sections.add(end=2.0, label=label, level=-9.0)
            case "lyrics":
                status.lyrics.lines.add(start=0.5, end=1.0, text=part.text or f"heard {part.language} {part.model}")
        return status

    def _fingerprint(self, message: Any, *others: Any) -> str:
        asked = MessageToDict(message)
        for name in ("requestId", "onBehalfOf"):
            asked.pop(name, None)
        return hashlib.sha256(repr((asked, others, self.version)).encode()).hexdigest()[:16]


@dataclass
class Link:
    """A link of anna and ben."""

    library: RunningLibrary
    services: Services
    id: str

    async def make(self, user: str, options: Options, *, again: bool = False) -> None:
        plan = make_plan(ParseDict(options, pb.ProcessingOptions()))
        payload = {"track_id": self.id, "plan": plan, "priority": 0, "again": again}
        key = job_key(user, self.id, options, self.services.version)
        record = await self.library.jobs.submit("track", payload, key=key, user=user, subject=self.id)
        ended = await self.library.end_of(record.id)
        assert ended.state == "succeeded", ended.error

    async def seen(self, user: str, **options: Any) -> TrackData:
        data = await self.library.tracks.track(self.id, user, **options)
        assert data is not None
        return data

    async def message(self, user: str) -> dict[str, Any]:
        """The track's message for a user, as JSON."""
        message: dict[str, Any] = MessageToDict(track_message(await self.seen(user)))
        return message

    async def stems(self, user: str) -> dict[str, str]:
        return {f"{stem.model}/{stem.name}": stem.audio_key for stem in (await self.seen(user)).stems}


async def add_link(library: RunningLibrary, services: Services) -> Link:
    """Adds a link whose audio has arrived."""
    name = uuid.uuid4().hex
    url = f"https://a.example/{name}"
    facts = AudioFacts(f"originals/{name}", f"peaks/{name}", "", name, "flac", 2.0, 44_100, 2, -12.0)
    for key in (facts.audio_key, facts.peaks_key):
        await library.objects.put(key, b"sound")
    track = await library.tracks.add_link("anna", url)
    await library.tracks.set_audio(track.id, SongFacts("Song", "Band"), facts)
    assert (await library.tracks.add_link("ben", url)).id == track.id
    return Link(library, services, track.id)


def analysis(part: str, **choice: str) -> Options:
    return {"analyses": [{"part": f"PART_{part.upper()}", **choice}]}


def separation(**choice: Any) -> Options:
    return {"separations": [choice]}
