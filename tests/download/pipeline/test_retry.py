"""Retrying a job makes only its failed parts, with the same choices."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import AlreadyExistsError, NotFoundError, PreconditionError
from services.common.jobs.records import JobRecord
from services.common.parts import PART_NAMES
from services.common.rpc.auth import Identity, set_caller
from services.download.config import DownloadSettings
from services.download.pipeline.plan import make_plan, remaining_work
from services.download.pipeline.submitting import track_work
from services.download.servicers import Servicers
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2, track_pb2
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.rpcs import running_servicers
from tests.download.site import Site

ANNA, BEN = (Identity(name, name, "user") for name in ("anna", "ben"))
OPTIONS = track_job_pb2.ProcessingOptions(
    separations=[
        track_job_pb2.SeparationChoice(
            model="htdemucs", stems=["vocals"], quality=separation_pb2.QUALITY_BEST, shifts=3
        ),
    ],
    analyses=[
        track_job_pb2.AnalysisChoice(part=analysis_pb2.PART_KEY, backend="librosa"),
        track_job_pb2.AnalysisChoice(
            part=analysis_pb2.PART_LYRICS, backend="whisper", model="tiny", language="de", text="Guten Morgen"
        ),
    ],
    priority=job_pb2.PRIORITY_BATCH,
)


class Services:
    """Stands for separation and analysis. Makes the parts in `works`, fails the others, and keeps the requests."""

    def __init__(self) -> None:
        self.works = {"key"}
        self.separations: list[separation_pb2.CreateSeparationRequest] = []
        self.analyses: list[analysis_pb2.CreateAnalysisRequest] = []

    async def separate(self, request: Any, _on_update: Any, _on_away: Any) -> separation_pb2.Separation:
        self.separations.append(request)
        error = job_pb2.JobError(code=9, reason="WEIGHTS_MISSING")
        failed = job_pb2.Job(state=job_pb2.JOB_STATE_FAILED, error=error)
        return separation_pb2.Separation(job=failed)

    async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
        self.analyses.append(request)
        analysis = analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED))
        for part in request.parts:
            status = analysis.parts.add(
                part=part.part, state=job_pb2.JOB_STATE_FAILED, error={"code": 3, "reason": "TIRED"}
            )
            if PART_NAMES[part.part] in self.works:
                status.CopyFrom(analysis_pb2.PartStatus(part=part.part, state=job_pb2.JOB_STATE_SUCCEEDED))
                getattr(status, PART_NAMES[part.part]).SetInParent()
        await on_update(analysis)
        return analysis

    async def cancel(self, _part: str, _request_id: str) -> list[str]:
        return []


class Rpcs:
    """Calls RPCs of the library, and returns the job of each after its end."""

    def __init__(self, servicers: Servicers, library: RunningLibrary) -> None:
        self._servicers = servicers
        self._library = library
        set_caller(ANNA)

    async def process(self, track_id: str) -> JobRecord:
        answer = await self._servicers.tracks.ProcessTrack(
            track_pb2.ProcessTrackRequest(track_id=track_id, options=OPTIONS), None
        )
        return await self._library.end_of(answer.job.job.id)

    async def create(self, url: str) -> JobRecord:
        answer = await self._servicers.tracks.CreateTrack(track_pb2.CreateTrackRequest(url=url, options=OPTIONS), None)
        return await self._library.end_of(answer.job.job.id)

    async def retry(self, job_id: str, request_id: str = "") -> JobRecord:
        answer = await self._servicers.track_jobs.RetryJob(
            track_job_pb2.RetryJobRequest(job_id=job_id, request_id=request_id), None
        )
        return await self._library.end_of(answer.job.job.id)


@pytest.fixture
def services(library: RunningLibrary) -> Services:
    services = Services()
    library.use(services)
    return services


@pytest.fixture
async def rpcs(library: RunningLibrary, settings: DownloadSettings, services: Services) -> AsyncIterator[Rpcs]:
    async with running_servicers(library, settings) as servicers:
        yield Rpcs(servicers, library)


def shown(record: JobRecord) -> dict[str, str]:
    return {part["name"]: part["state"].removeprefix("JOB_STATE_").lower() for part in record.detail["parts"]}


async def test_failed_parts_are_made_again_with_the_same_choices(
    library: RunningLibrary, services: Services, rpcs: Rpcs, tmp_path: Path
) -> None:
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    await library.keep_part(track.id, "lyrics", {"lines": []})
    vocals = {"name": "vocals", "audio_key": track.audio_key, "peaks_key": track.peaks_key, "duration_seconds": 2.0}
    facts = {"sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
    await library.keep_stems(track.id, [vocals | facts])
    first = await rpcs.process(track.id)
    assert shown(first) == {"acquire": "succeeded", "separation": "failed", "key": "succeeded", "lyrics": "failed"}
    asked, heard = services.separations[0], next(one for one in services.analyses if one.parts[0].text)
    services.separations.clear()
    services.analyses.clear()
    services.works.add("lyrics")
    again = await rpcs.retry(first.id)
    assert shown(again) == {"acquire": "succeeded", "separation": "failed", "lyrics": "succeeded"}
    (separation,), (analysis,) = services.separations, services.analyses
    for request, former in ((separation, asked), (analysis, heard)):
        assert request.request_id != former.request_id
        request.request_id = former.request_id
    assert (separation, analysis) == (asked, heard)
    # Only the separation is left.
    last = await rpcs.retry(again.id)
    assert shown(last) == {"acquire": "succeeded", "separation": "failed"}
    assert last.payload["again"] is first.payload["again"] is True


async def test_successful_and_running_jobs_are_not_tried_again(
    library: RunningLibrary, services: Services, rpcs: Rpcs, tmp_path: Path
) -> None:
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    plan = make_plan(
        track_job_pb2.ProcessingOptions(analyses=[track_job_pb2.AnalysisChoice(part=analysis_pb2.PART_KEY)])
    )
    job_id = await library.start("anna", track.id, plan)
    with pytest.raises(PreconditionError) as refused:
        await rpcs.retry(job_id)
    assert refused.value.reason == "JOB_NOT_FINISHED"
    assert (await library.end_of(job_id)).state == "succeeded"
    with pytest.raises(PreconditionError) as refused:
        await rpcs.retry(job_id)
    assert refused.value.reason == "NOTHING_TO_RETRY"


async def test_a_repeated_request_gives_the_same_job_and_jobs_of_others_are_not_found(
    library: RunningLibrary, rpcs: Rpcs, tmp_path: Path
) -> None:
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    first = await rpcs.process(track.id)
    again = await rpcs.retry(first.id, "again-1")
    assert again.id != first.id
    assert (await rpcs.retry(first.id, "again-1")).id == again.id
    with pytest.raises(AlreadyExistsError):
        await rpcs.retry(again.id, "again-1")
    set_caller(BEN)
    with pytest.raises(NotFoundError) as refused:
        await rpcs.retry(first.id)
    assert refused.value.reason == "NO_SUCH_JOB"


async def test_a_link_that_could_not_be_fetched_is_fetched_again_with_the_same_choices(
    library: RunningLibrary, services: Services, rpcs: Rpcs, site: Site, tmp_path: Path
) -> None:
    first = await rpcs.create(f"{site.url}/late.flac")
    assert shown(first)["acquire"] == "failed"
    assert await library.tracks.track(first.subject) is None
    site.put(with_soundfile(tmp_path / "late.flac", music(2)))
    again = await rpcs.retry(first.id)
    assert shown(again)["acquire"] == "succeeded"
    assert again.payload["plan"] == first.payload["plan"]
    assert again.payload["priority"] == job_pb2.PRIORITY_BATCH
    assert await library.tracks.track(again.subject, "anna") is not None


def test_the_second_of_two_separations_is_tried_again_alone() -> None:
    plan = make_plan(
        track_job_pb2.ProcessingOptions(
            separations=[track_job_pb2.SeparationChoice(model=model) for model in ("a", "b")]
        )
    )
    left = remaining_work(plan, {"acquire", "separation"})
    assert [choice["model"] for choice in left["separations"]] == ["b"]


def test_jobs_of_earlier_versions_can_be_tried_again() -> None:
    work = track_work({"track_id": "t", "plan": {"separations": [], "analyses": []}, "priority": 0})
    assert (work.again, work.use_cookies, work.url) == (True, False, "")
