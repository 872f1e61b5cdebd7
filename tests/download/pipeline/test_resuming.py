"""A job that was interrupted sends the same requests to the other services when it continues."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import AlreadyExistsError
from services.common.jobs.queue import JobQueue
from services.common.jobs.requests import request_digest
from services.common.jobs.retry import RetryPolicy
from services.common.parts import PART_NAMES
from services.common.storage.sqlite_faults import LOCKED, outage
from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.pipeline import KIND
from services.download.pipeline.plan import make_plan
from services.download.pipeline.progress import SUCCEEDED, parts_in
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.song_library import beats

STEM = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
VOCALS = {"name": "vocals", "audio_key": "stems/v", "peaks_key": "peaks/v", **STEM}


class Analysis:
    """Refuses a different request with a known id, as the service does. While `hangs` is set, nothing is answered."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.hangs = True
        self.asked = asyncio.Event()

    async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
        if self.known.setdefault(request.request_id, request_digest(request)) != request_digest(request):
            raise AlreadyExistsError("Another request came with this request_id.", "REQUEST_ID_REUSED")
        if self.hangs and len(self.known) == 2:
            self.asked.set()
        while self.hangs:
            await asyncio.sleep(0.05)
        parts = [analysis_pb2.PartStatus(part=part.part, state=job_pb2.JOB_STATE_SUCCEEDED) for part in request.parts]
        for part in parts:
            getattr(part, PART_NAMES[part.part]).SetInParent()
        analysis = analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED), parts=parts)
        await on_update(analysis)
        return analysis


class Lyrics(FoundLyrics):
    """A site that answers with different words each time."""

    def __init__(self) -> None:
        super().__init__("")
        self.answers = 0

    async def find(self, _title: str, _artist: str, _seconds: float) -> str:
        self.answers += 1
        return f"words {self.answers}"


async def test_an_interrupted_job_sends_the_same_requests_again(library: RunningLibrary, tmp_path: Path) -> None:
    service, lyrics = Analysis(), Lyrics()
    library.use(service, lyrics)
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    await library.keep_stems(track.id, [VOCALS])
    await library.keep_part(track.id, "beats", beats(100.0))
    wanted = [analysis_pb2.PART_CHORDS, analysis_pb2.PART_LYRICS]
    plan = make_plan(pb.ProcessingOptions(analyses=[pb.AnalysisChoice(part=part) for part in wanted]))
    job_id = await library.start("anna", track.id, plan)
    async with asyncio.timeout(30):
        await service.asked.wait()
    await library.jobs.close()
    # The inputs of the requests change.
    await library.user_tracks.edit("anna", track.id, "beats", beats(50.0) | {"beats": [{"time": 0.25}]})
    library.jobs = JobQueue(
        library.jobs._url,
        library.jobs.name,
        handlers={KIND: lambda job: library.pipeline.handle(job, library.jobs)},
        slots=1,
    )
    service.hangs = False
    await library.jobs.start()
    ended = await library.end_of(job_id)
    assert ended.state == "succeeded"
    assert parts_in(ended, SUCCEEDED) == {"acquire", "chords", "lyrics"}, ended.detail
    assert ended.attempts > 0
    assert lyrics.answers == 1


async def test_a_part_that_could_not_be_stored_for_a_while_is_stored_later(
    library: RunningLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts once failed for good when the database was locked while their results were stored."""
    service = Analysis()
    service.hangs = False
    library.use(service)
    keep_part, times = library.versions.keep_part, 0

    async def locked(*arguments: Any, **options: Any) -> Any:
        nonlocal times
        times += 1
        if times <= RetryPolicy().retries + 1:
            raise outage(LOCKED, None)
        return await keep_part(*arguments, **options)

    monkeypatch.setattr(library.versions, "keep_part", locked)
    monkeypatch.setattr("services.common.jobs.retry.RetryPolicy.delay_seconds", lambda *_: 0.05)
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    plan = make_plan(pb.ProcessingOptions(analyses=[pb.AnalysisChoice(part=analysis_pb2.PART_KEY)]))
    ended = await library.end_of(await library.start("anna", track.id, plan))
    assert (ended.state, parts_in(ended, SUCCEEDED)) == ("succeeded", {"acquire", "key"}), ended.detail
