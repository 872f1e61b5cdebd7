"""A request for an analysis becomes a job with certain backends, or is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.analysis.backends.base import Beat, Beats, Endpoint, Line, Section
from services.analysis.contents import beats_of, lyrics_of, structure_of
from services.analysis.service import KIND, AnalysisService
from services.common.errors import AlreadyExistsError, InvalidInputError, StemTubeError, WeightsMissingError
from services.common.jobs.context import JobContext
from services.common.jobs.queue import JobQueue
from services.common.parts import PART_NUMBERS
from services.common.rpc.auth import Identity, set_caller
from services.common.rpc.draining import Draining
from services.common.storage.objects import ObjectStore
from services.common.weights.store import WeightStore
from stemtube.analysis.v1 import analysis_pb2 as pb
from stemtube.analysis.v1 import music_pb2
from tests.analysis.models import put_whisper_model

AUDIO = "originals/song"


class Requests:
    """A servicer that only accepts."""

    def __init__(self, jobs: JobQueue, objects: ObjectStore, weights: WeightStore) -> None:
        self.jobs = jobs
        self.weights = weights
        self.objects = objects
        self._count = 0

    async def submit(self, part: str = "lyrics", device: str = "cpu", **choice: Any) -> str:
        """The id of the job that a request for one part gets."""
        set_caller(Identity("download", "download", "service"))
        self._count += 1
        service = AnalysisService(self.jobs, self.objects, self.weights, device, Draining())
        request = pb.CreateAnalysisRequest(
            request_id=f"r{self._count}",
            audio_key=AUDIO,
            parts=[pb.PartRequest(part=PART_NUMBERS[part], **choice)],
            on_behalf_of="anna",
        )
        return (await service.CreateAnalysis(request, None)).analysis.job.id

    async def made_by(self, job_id: str) -> dict[str, str]:
        made_by: dict[str, str] = (await self.jobs.get(job_id)).payload["parts"][0]["made_by"]
        return made_by


async def substitute(job: JobContext) -> dict[str, Any]:
    """A worker that never has the backend that was asked for."""
    made_by = {**job.payload["parts"][0]["made_by"], "substitution": "its weights did not come"}
    await job.keep_output("lyrics", {"language": "", "lines": [], "made_by": made_by})
    return {"parts": [{"part": "PART_LYRICS", "state": "JOB_STATE_SUCCEEDED", "progress": 1.0}]}


@pytest.fixture
async def requests(tmp_path: Path) -> AsyncIterator[Requests]:
    objects = ObjectStore.from_url(str(tmp_path / "objects"))
    await objects.put(AUDIO, b"sound")
    jobs = JobQueue(f"sqlite:///{tmp_path}/jobs.sqlite", "analysis-test", handlers={KIND: substitute}, slots=1)
    await jobs.start()
    yield Requests(jobs, objects, WeightStore(tmp_path / "models", offline=True))
    await jobs.close()


async def test_an_automatic_choice_does_not_join_a_job_for_a_named_model(requests: Requests) -> None:
    """Only the automatic one may end with a substitute, and says why."""
    by_name = await requests.submit(model="tiny.en")
    auto = await requests.submit()
    assert auto != by_name
    assert (await requests.submit(model="auto", backend="auto")) == auto
    assert "small is not here" in (await requests.made_by(auto))["substitution"]
    assert (await requests.made_by(by_name))["substitution"] == ""
    assert (await requests.submit("beats")) != (await requests.submit("beats", backend="madmom"))


@pytest.mark.parametrize("request_id", ["", "x" * 101, "a\0", "a b"])
async def test_withdrawing_an_impossible_request_id_is_refused(requests: Requests, request_id: str) -> None:
    set_caller(Identity("download", "download", "service"))
    service = AnalysisService(requests.jobs, requests.objects, requests.weights, "cpu", Draining())
    with pytest.raises(InvalidInputError, match="request_id"):
        await service.CancelAnalysis(pb.CancelAnalysisRequest(request_id=request_id), None)


async def test_a_named_model_is_never_replaced(requests: Requests) -> None:
    with pytest.raises(WeightsMissingError, match="small is not here"):
        await requests.submit(model="small")


async def test_auto_depends_on_the_configured_device(requests: Requests) -> None:
    for model in ("small", "large-v3-turbo"):
        put_whisper_model(requests.weights, model)
    on_cpu, on_gpu = [await requests.made_by(await requests.submit(device=device)) for device in ("cpu", "cuda")]
    assert (on_cpu["model"], on_gpu["model"]) == ("small", "large-v3-turbo")


@pytest.mark.parametrize("choice", [{}, {"model": "tiny.en"}])
async def test_a_language_that_the_model_does_not_know_is_refused(requests: Requests, choice: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="knows English only") as refusal:
        await requests.submit(language="de", **choice)
    assert refusal.value.reason == "LANGUAGE_NOT_SUPPORTED"
    assert await requests.submit(language="en", **choice)


def sections(*labels: str) -> music_pb2.Structure:
    return music_pb2.Structure(
        sections=[
            music_pb2.Section(start=10 * i, end=10 * i + 10, label=label, group=i, level=-9)
            for i, label in enumerate(labels)
        ]
    )


async def test_each_text_and_division_gets_its_own_naming_job(requests: Requests) -> None:
    await requests.jobs.stop_working()  # a job that has ended with a substitute would not be joined
    lyrics = music_pb2.Lyrics(lines=[music_pb2.Line(start=1, end=2, text="la la")])
    jobs = [
        await requests.submit("structure"),
        await requests.submit("structure", structure=sections("A", "B")),
        await requests.submit("structure", structure=sections("A", "B", "C")),
        await requests.submit("structure", structure=sections("A", "B"), lyrics=lyrics),
    ]
    assert len(set(jobs)) == 4
    assert await requests.submit("structure", structure=sections("A", "B"), lyrics=lyrics) == jobs[3]
    kept = (await requests.jobs.get(jobs[3])).payload["parts"][0]
    assert structure_of(kept["structure"]).sections[1] == Section(10.0, 20.0, "B", 0.0, 1, -9.0)
    assert lyrics_of(kept["lyrics"]).lines == (Line(1.0, 2.0, "la la", ()),)


def beats(*times: float) -> music_pb2.Beats:
    return music_pb2.Beats(
        tempo=music_pb2.Tempo(bpm=120), beats=[music_pb2.Beat(time=time, position=1) for time in times]
    )


async def test_chords_follow_the_given_beats(requests: Requests) -> None:
    jobs = [await requests.submit("chords", beats=given) for given in (None, beats(0.5, 1.0), beats(0.5, 1.1))]
    assert len(set(jobs)) == 3
    kept = (await requests.jobs.get(jobs[1])).payload["parts"][0]
    assert beats_of(kept["beats"]) == Beats((Beat(0.5, 1), Beat(1.0, 1)), 120.0, 0.0, 0)


@pytest.mark.parametrize(
    ("part", "given"),
    [
        ("key", beats(0.5)),
        ("chords", beats(1.0, 0.5)),
        ("chords", beats(0.5, float("nan"))),
        ("chords", music_pb2.Beats(beats=[music_pb2.Beat(time=1.0)])),
    ],
)
async def test_unusable_beats_are_refused(requests: Requests, part: str, given: music_pb2.Beats) -> None:
    with pytest.raises(InvalidInputError, match="beats"):
        await requests.submit(part, beats=given)


async def test_sections_and_lyrics_are_for_the_structure_alone(requests: Requests) -> None:
    for part, given in (
        ("key", {"structure": sections("A")}),
        ("structure", {"structure": sections()}),
        ("structure", {"lyrics": music_pb2.Lyrics()}),
    ):
        with pytest.raises(InvalidInputError, match="naming sections again"):
            await requests.submit(part, **given)


async def test_a_language_model_is_offered_if_one_is_configured(requests: Requests) -> None:
    set_caller(Identity("anna", "anna", "user"))
    for endpoint, available, default in ((None, False, "barwise"), (Endpoint("http://x/v1", "m"), True, "llm")):
        service = AnalysisService(requests.jobs, requests.objects, requests.weights, "cpu", Draining(), endpoint)
        backends = (await service.ListBackends(pb.ListBackendsRequest(), None)).backends
        structure = {backend.name: backend for backend in backends if backend.part == pb.PART_STRUCTURE}
        assert structure["llm"].availability.available == available
        assert (
            "STEMTUBE_ANALYSIS__LANGUAGE_MODEL__URL" in structure["llm"].availability.unavailable_reason
        ) != available
        assert [name for name, backend in structure.items() if backend.default] == [default]


async def test_a_substitutes_result_is_kept_only_until_the_best_is_available(requests: Requests) -> None:
    async def ended(job_id: str) -> str:
        assert [record async for record in requests.jobs.watch(job_id)][-1].state == "succeeded"
        return job_id

    without_hub = await ended(await requests.submit())
    assert await requests.submit() == without_hub
    put_whisper_model(requests.weights, "small")
    unlucky = await ended(await requests.submit())
    assert unlucky != without_hub
    assert await requests.submit() != unlucky


async def test_each_text_and_mix_gets_its_own_job_and_is_checked(requests: Requests) -> None:
    jobs = [await requests.submit(**given) for given in ({}, {"text": "la"}, {"text": "la la"}, {"mix_key": AUDIO})]
    assert len(set(jobs)) == 4
    for part, given, reason in (
        ("key", {"text": "la"}, "BAD_REQUEST"),
        ("lyrics", {"text": "-"}, "INVALID_TEXT"),
        ("lyrics", {"mix_key": "originals/none"}, "NO_SUCH_OBJECT"),
    ):
        with pytest.raises(StemTubeError) as refusal:
            await requests.submit(part, **given)
        assert refusal.value.reason == reason


async def test_a_different_request_with_a_used_id_is_refused(requests: Requests) -> None:
    """The first request's answer stays the same, also when another id asks for equal work."""
    set_caller(Identity("download", "download", "service"))
    service = AnalysisService(requests.jobs, requests.objects, requests.weights, "cpu", Draining())

    def request(user: str = "anna", **choice: Any) -> pb.CreateAnalysisRequest:
        parts = [pb.PartRequest(part=pb.PART_BEATS, **choice)]
        return pb.CreateAnalysisRequest(request_id="one", audio_key=AUDIO, parts=parts, on_behalf_of=user)

    first = (await service.CreateAnalysis(request(), None)).analysis.job.id
    assert (await service.CreateAnalysis(request(), None)).analysis.job.id == first
    for other in (request(backend="librosa"), request("ben")):
        with pytest.raises(AlreadyExistsError) as refused:
            await service.CreateAnalysis(other, None)
        assert refused.value.reason == "REQUEST_ID_REUSED"
    assert len(await requests.jobs.jobs_of("anna")) == 1
    assert await requests.jobs.jobs_of("ben") == []
