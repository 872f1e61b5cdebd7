"""A job that is broken off and goes on: it asks the other services for the same as before."""

import asyncio
from pathlib import Path
from typing import Any

from services.common.errors import AlreadyExistsError
from services.common.jobs.queue import JobQueue
from services.common.jobs.requests import request_digest
from services.common.parts import PART_NAMES
from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.pipeline import KIND
from services.download.pipeline.plan import make_plan
from services.download.pipeline.progress import SUCCEEDED, parts_in
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import Acquiring
from tests.download.shelves import beats

STEM = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
VOCALS = {"name": "vocals", "audio_key": "stems/v", "peaks_key": "peaks/v", **STEM}


class Analysis:
    """Refuses another request with an id that it knows, as the service does; the first attempts get no answer."""

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
    """A site that knows other words each time."""

    def __init__(self) -> None:
        super().__init__("")
        self.answers = 0

    async def find(self, _title: str, _artist: str, _seconds: float) -> str:
        self.answers += 1
        return f"words {self.answers}"


async def test_a_job_that_is_broken_off_asks_for_the_same_again(acquiring: Acquiring, tmp_path: Path) -> None:
    service, lyrics = Analysis(), Lyrics()
    acquiring.use(service, lyrics)
    track = await acquiring.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    await acquiring.library.set_stems(track.id, "spleeter_2stems", [VOCALS], {})
    await acquiring.library.set_analysis(track.id, "beats", beats(100.0))
    wanted = [analysis_pb2.PART_CHORDS, analysis_pb2.PART_LYRICS]
    plan = make_plan(pb.ProcessingOptions(analyses=[pb.AnalysisChoice(part=part) for part in wanted]))
    job_id = await acquiring.start("anna", track.id, plan)
    async with asyncio.timeout(30):
        await service.asked.wait()
    await acquiring.jobs.close()
    # What goes into the requests is another by now.
    await acquiring.user_tracks.edit("anna", track.id, "beats", beats(50.0) | {"beats": [{"time": 0.25}]})
    acquiring.jobs = JobQueue(
        acquiring.jobs._url,
        acquiring.jobs.name,
        handlers={KIND: lambda job: acquiring.pipeline.handle(job, acquiring.jobs)},
        slots=1,
    )
    service.hangs = False
    await acquiring.jobs.start()
    ended = await acquiring.end_of(job_id)
    assert ended.state == "succeeded"
    assert parts_in(ended, SUCCEEDED) == {"acquire", "chords", "lyrics"}, ended.detail
    assert ended.attempts > 0
    assert lyrics.answers == 1
