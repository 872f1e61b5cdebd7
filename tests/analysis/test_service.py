"""What a request for an analysis becomes: which job, with which backends, or a refusal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.analysis.backends import whisper_models
from services.analysis.service import KIND, PART_NUMBERS, AnalysisService
from services.common.auth import Identity, set_caller
from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.jobs import JobContext, JobQueue
from services.common.server import Draining
from services.common.storage import ObjectStore
from services.common.weights import WeightStore
from stemtube.analysis.v1 import analysis_pb2 as pb
from tests.analysis.models import put_whisper_model

AUDIO = "originals/song"


class Requests:
    """A servicer that only accepts."""

    def __init__(self, jobs: JobQueue, objects: ObjectStore, weights: WeightStore) -> None:
        self.jobs = jobs
        self.weights = weights
        self._objects = objects
        self._count = 0

    async def submit(self, part: str = "lyrics", device: str = "cpu", **choice: str) -> str:
        """The id of the job that a request for one part gets."""
        set_caller(Identity("download", "download", "service"))
        self._count += 1
        service = AnalysisService(self.jobs, self._objects, self.weights, device, Draining())
        request = pb.CreateAnalysisRequest(
            request_id=f"r{self._count}",
            audio_key=AUDIO,
            parts=[pb.PartRequest(part=PART_NUMBERS[part], **choice)],  # type: ignore[index]
            on_behalf_of="anna",
        )
        return (await service.CreateAnalysis(request, None)).analysis.job.id

    async def made_by(self, job_id: str) -> dict[str, str]:
        made_by: dict[str, str] = (await self.jobs.get(job_id)).payload["parts"][0]["made_by"]
        return made_by


async def substitute(job: JobContext) -> dict[str, Any]:
    """A worker that never has what was wanted."""
    made_by = {**job.payload["parts"][0]["made_by"], "substitution": "its weights did not come"}
    await asyncio.to_thread(job.save_output, "lyrics", {"language": "", "lines": [], "made_by": made_by})
    return {"parts": {"lyrics": {"state": "succeeded", "progress": 1.0, "error": None}}}


@pytest.fixture
async def requests(tmp_path: Path) -> AsyncIterator[Requests]:
    objects = ObjectStore.from_url(str(tmp_path / "objects"))
    await objects.put(AUDIO, b"sound")
    jobs = JobQueue(f"sqlite:///{tmp_path}/jobs.sqlite", "analysis-test", handlers={KIND: substitute}, slots=1)
    await jobs.start()
    yield Requests(jobs, objects, WeightStore(tmp_path / "models", offline=True))
    await jobs.close()


async def test_an_automatic_choice_is_no_job_of_who_named_the_same_model(requests: Requests) -> None:
    """Only the one may end with a substitute, and tells why it did."""
    by_name = await requests.submit(model="tiny.en")
    auto = await requests.submit()
    assert auto != by_name
    assert (await requests.submit(model="auto", backend="auto")) == auto
    assert "small is not here" in (await requests.made_by(auto))["substitution"]
    assert (await requests.made_by(by_name))["substitution"] == ""
    assert (await requests.submit("beats")) != (await requests.submit("beats", backend="madmom"))


async def test_a_named_model_is_never_replaced(requests: Requests) -> None:
    with pytest.raises(WeightsMissingError, match="small is not here"):
        await requests.submit(model="small")


async def test_what_auto_means_depends_on_the_device_that_is_set(requests: Requests) -> None:
    for model in (whisper_models.PREFERRED_ON_CPU, whisper_models.PREFERRED_ON_GPU):
        put_whisper_model(requests.weights, model)
    on_cpu, on_gpu = [await requests.made_by(await requests.submit(device=device)) for device in ("cpu", "cuda")]
    assert (on_cpu["model"], on_gpu["model"]) == ("small", "large-v3-turbo")


@pytest.mark.parametrize("choice", [{}, {"model": "tiny.en"}])
async def test_a_language_that_the_model_does_not_know_is_refused(requests: Requests, choice: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="knows English only") as refusal:
        await requests.submit(language="de", **choice)
    assert refusal.value.reason == "LANGUAGE_NOT_SUPPORTED"
    assert await requests.submit(language="en", **choice)


async def test_a_substitute_is_kept_only_as_long_as_the_best_cannot_be_had(requests: Requests) -> None:
    async def ended(job_id: str) -> str:
        assert [record async for record in requests.jobs.watch(job_id)][-1].state == "succeeded"
        return job_id

    without_hub = await ended(await requests.submit())
    assert await requests.submit() == without_hub
    put_whisper_model(requests.weights, "small")
    unlucky = await ended(await requests.submit())
    assert unlucky != without_hub
    assert await requests.submit() != unlucky
