"""The track's beats are passed to a part that uses beats, unless the job makes beats, too."""

from pathlib import Path
from typing import Any

import pytest

from services.common.parts import PART_NUMBERS
from services.download.pipeline.plan import make_plan
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary

BEATS = {
    "tempo": {"bpm": 120.0, "confidence": 0.9},
    "beats": [{"time": 0.5, "position": 1}, {"time": 1.0, "position": 2}],
    "beatsPerBar": 2,
    "madeBy": {"backend": "madmom"},
}


class Analysis:
    """Keeps the requests, and fails all parts."""

    def __init__(self) -> None:
        self.requests: list[analysis_pb2.CreateAnalysisRequest] = []

    async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
        self.requests.append(request)
        tired = job_pb2.JobError(reason="TIRED")
        parts = [
            analysis_pb2.PartStatus(part=part.part, state=job_pb2.JOB_STATE_FAILED, error=tired)
            for part in request.parts
        ]
        analysis = analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED), parts=parts)
        await on_update(analysis)
        return analysis


@pytest.mark.parametrize(
    ("found", "wanted", "given"),
    [
        (BEATS, ["chords"], {"chords"}),
        (BEATS, ["key", "chords"], {"chords"}),
        (BEATS, ["beats", "chords"], set()),
        ({"tempo": {}, "madeBy": {"backend": "madmom"}}, ["chords"], set()),
        (None, ["chords"], set()),
    ],
    ids=["chords", "beside the key", "beside new beats", "without a pulse", "never found"],
)
async def test_known_beats_are_passed_to_parts_that_use_them(
    library: RunningLibrary, tmp_path: Path, found: dict[str, Any] | None, wanted: list[str], given: set[str]
) -> None:
    service = Analysis()
    library.use(service)
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    if found:
        await library.keep_part(track.id, "beats", found)
    plan = make_plan(pb.ProcessingOptions(analyses=[pb.AnalysisChoice(part=PART_NUMBERS[part]) for part in wanted]))
    await library.end_of(await library.start("anna", track.id, plan))
    (request,) = service.requests
    assert {part.part for part in request.parts if part.HasField("beats")} == {PART_NUMBERS[part] for part in given}
    for part in request.parts:
        assert [beat.time for beat in part.beats.beats] == ([0.5, 1.0] if part.HasField("beats") else [])
