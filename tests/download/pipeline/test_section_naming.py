"""Sections get new names at the end of a job. After an error they keep their names."""

from pathlib import Path
from typing import Any

import pytest

from services.common.errors import InvalidInputError
from services.download.pipeline.plan import make_plan
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2, music_pb2
from stemtube.common.v1 import provenance_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary

FOUND = {
    "sections": [{"end": 9.0, "label": "A", "level": -9.0}, {"start": 9.0, "end": 20.0, "label": "B", "level": -6.0}]
}
MADE_BY = {"backend": "barwise", "version": "barwise-1", "substitution": "a language model sleeps"}
STEM = {"duration_seconds": 20.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
STEMS = [
    {"name": name, "audio_key": f"stems/{name}", "peaks_key": f"peaks/{name}", **STEM}
    for name in ("vocals", "accompaniment")
]


class Analysis:
    """Answers with the given sections, or refuses."""

    def __init__(self, answer: music_pb2.Structure | None, *, hears: bool = True) -> None:
        self.answer = answer
        self.hears = hears
        self.requests: list[analysis_pb2.CreateAnalysisRequest] = []

    async def separate(self, *_arguments: Any) -> None:
        raise InvalidInputError("no")

    async def cancel(self, *_arguments: Any) -> list[str]:
        return []

    async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
        if request.parts[0].part == analysis_pb2.PART_LYRICS and not self.hears:
            raise InvalidInputError("no")
        if request.parts[0].part == analysis_pb2.PART_LYRICS:
            status = analysis_pb2.PartStatus(part=analysis_pb2.PART_LYRICS, state=job_pb2.JOB_STATE_SUCCEEDED)
            status.lyrics.language = "en"
            status.lyrics.lines.add(start=1.0, end=2.0, text="la la")
        else:
            self.requests.append(request)
            if self.answer is None:
                raise InvalidInputError("no")
            status = analysis_pb2.PartStatus(
                part=analysis_pb2.PART_STRUCTURE, state=job_pb2.JOB_STATE_SUCCEEDED, structure=self.answer
            )
        analysis = analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED), parts=[status])
        await on_update(analysis)
        return analysis


def named(*labels: str, start: float = 9.0) -> music_pb2.Structure:
    first, second = labels
    return music_pb2.Structure(
        sections=[
            music_pb2.Section(end=start, label=first, level=-9),
            music_pb2.Section(start=start, end=20, label=second, level=-6),
        ],
        made_by=provenance_pb2.Provenance(backend="barwise", version="barwise-1"),
    )


async def end(library: RunningLibrary, path: Path, service: Analysis, structure: Any, stems: Any = STEMS) -> Any:
    """Runs a job for lyrics, and returns the track's structure after it."""
    library.use(service)
    track = await library.upload("anna", with_soundfile(path, music(2)))
    if structure:
        await library.keep_part(track.id, "structure", structure)
    await library.keep_stems(track.id, stems)
    plan = make_plan(pb.ProcessingOptions(analyses=[pb.AnalysisChoice(part=analysis_pb2.PART_LYRICS)]))
    ended = await library.end_of(await library.start("anna", track.id, plan))
    assert ended.state == "succeeded" or not stems
    data = await library.tracks.track(track.id)
    assert data
    return data.analyses.get("structure")


async def test_new_lyrics_give_new_names(library: RunningLibrary, tmp_path: Path) -> None:
    service = Analysis(named("verse", "chorus"))
    structure = await end(library, tmp_path / "song.wav", service, {**FOUND, "madeBy": MADE_BY})
    assert [section["label"] for section in structure["sections"]] == ["verse", "chorus"]
    assert structure["madeBy"] == MADE_BY
    (request,) = service.requests
    assert request.audio_key == "stems/vocals"
    (part,) = request.parts
    assert part.backend == "barwise"
    assert [section.label for section in part.structure.sections] == ["A", "B"]
    assert [line.text for line in part.lyrics.lines] == ["la la"]


@pytest.mark.parametrize("answer", [None, named("verse", "chorus", start=4.0)], ids=["refused", "other boundaries"])
async def test_names_stay_if_naming_fails(
    library: RunningLibrary, tmp_path: Path, answer: music_pb2.Structure | None
) -> None:
    found = {**FOUND, "madeBy": MADE_BY}
    service = Analysis(answer)
    assert await end(library, tmp_path / "song.wav", service, found) == found
    assert len(service.requests) == 1


async def test_failed_parts_cause_no_new_names(library: RunningLibrary, tmp_path: Path) -> None:
    service = Analysis(named("verse", "chorus"), hears=False)
    library.use(service)
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    await library.keep_part(track.id, "structure", {**FOUND, "madeBy": MADE_BY})
    await library.keep_stems(track.id, STEMS)
    lyrics = pb.AnalysisChoice(part=analysis_pb2.PART_LYRICS)
    plan = make_plan(pb.ProcessingOptions(separations=[pb.SeparationChoice(model="htdemucs")], analyses=[lyrics]))
    assert (await library.end_of(await library.start("anna", track.id, plan))).state == "failed"
    assert service.requests == []


async def test_sections_are_not_named_without_vocals_or_levels(library: RunningLibrary, tmp_path: Path) -> None:
    service = Analysis(named("verse", "chorus"))
    assert await end(library, tmp_path / "one.wav", service, None) is None
    old = {"sections": [{"end": 20.0, "label": "A"}], "madeBy": MADE_BY}
    assert await end(library, tmp_path / "two.wav", service, old) == old
    found = {**FOUND, "madeBy": MADE_BY}
    assert await end(library, tmp_path / "three.wav", service, found, stems=[]) == found
    assert service.requests == []
