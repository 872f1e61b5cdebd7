"""What a separation makes for nobody is removed, whichever is first: its end or the withdrawal, however late."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.common.jobs.errors import worker_died
from services.common.jobs.queue import JobQueue
from services.download.pipeline.plan import make_plan
from services.download.tables import Track
from songs.small_songs import music
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import Acquiring

PLAN = make_plan(pb.ProcessingOptions(separations=[pb.SeparationChoice()]))


async def nothing() -> None:
    pass


class Separation:
    """The separation service without its network: a real queue, and a worker that the test is."""

    def __init__(self, queue: JobQueue, acquiring: Acquiring) -> None:
        self.queue = queue
        self.is_away = False
        self.before_answer: Callable[[], Awaitable[object]] = nothing
        self.asked = asyncio.Event()
        self._acquiring = acquiring
        self._leases = queue._leases

    async def separate(self, request: Any, _on_update: Any, _on_away: Any) -> separation_pb2.Separation:
        record = await self.queue.submit(
            "separation", {}, key=request.audio_key, user=request.on_behalf_of, request_id=request.request_id
        )
        self.asked.set()
        async for latest in self.queue.watch(record.id):
            record = latest
        await self.before_answer()
        stems = [separation_pb2.Stem(**stem) for stem in (record.result or {}).get("stems", [])]
        return separation_pb2.Separation(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED), model="m", stems=stems)

    async def cancel(self, _part: str, request_id: str) -> list[str] | None:
        if self.is_away:
            return None
        await self.queue.cancel_request(request_id)
        record = await self.queue.give_up_result(request_id)
        stems = (record.result or {})["stems"] if record else []
        return [key for stem in stems for key in (stem["audio_key"], stem["peaks_key"])]

    async def finish(self) -> bool:
        """Does the job at its second attempt; whether that counted."""
        (job,) = await self.queue.unfinished()
        self._leases.claim("first")
        self._leases.release(job.id, "first")
        self._leases.claim("second")
        key = f"stems/{job.id}/second/vocals.flac"
        facts: dict[str, Any] = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
        stem = {"name": "vocals", "audio_key": key, "peaks_key": f"{key}.peaks", **facts}
        for name in (key, f"{key}.peaks"):
            await self._acquiring.objects.put(name, b"sound")
        return self._leases.finish(job.id, "second", "succeeded", {"stems": [stem]}, None)


@pytest.fixture
async def service(acquiring: Acquiring, tmp_path: Path) -> AsyncIterator[Separation]:
    queue = JobQueue(f"sqlite:///{tmp_path}/separation.sqlite", "separation-test")
    await queue.start()
    service = Separation(queue, acquiring)
    acquiring.use(service)
    yield service
    await queue.close()


@pytest.fixture
async def track(acquiring: Acquiring, tmp_path: Path) -> Track:
    return await acquiring.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))


async def begin(acquiring: Acquiring, service: Separation, user: str, track: Track) -> str:
    service.asked.clear()
    job = await acquiring.start(user, track.id, PLAN)
    async with asyncio.timeout(60):
        await service.asked.wait()
    return job


async def cancel(acquiring: Acquiring, job: str) -> None:
    await acquiring.jobs.cancel(job)
    await acquiring.pipeline.withdraw(acquiring.jobs, job)


async def stems_of(acquiring: Acquiring, track: Track) -> tuple[int, int]:
    """Stems that the track has, and objects of stems in the store."""
    data = await acquiring.library.track(track.id)
    assert data is not None
    return len(data.stems), len([key for key in await acquiring.keys() if key.startswith("stems/")])


async def test_the_withdrawal_that_does_not_arrive_is_repeated_after_the_end(
    acquiring: Acquiring, service: Separation, track: Track
) -> None:
    job = await begin(acquiring, service, "anna", track)
    service.is_away = True
    await cancel(acquiring, job)
    assert await service.finish(), "the service knows nothing of it"
    await acquiring.pipeline.withdraw_outstanding(acquiring.jobs)
    assert await stems_of(acquiring, track) == (0, 2)
    service.is_away = False
    await acquiring.pipeline.withdraw_outstanding(acquiring.jobs)
    assert await stems_of(acquiring, track) == (0, 0)
    assert await service.queue.counts() == {"cancelled": 1}


async def test_the_withdrawal_that_arrives_before_the_end_stops_the_work(
    acquiring: Acquiring, service: Separation, track: Track
) -> None:
    job = await begin(acquiring, service, "anna", track)
    await cancel(acquiring, job)
    assert await service.queue.unfinished() == []
    await acquiring.pipeline.withdraw_outstanding(acquiring.jobs)
    assert await stems_of(acquiring, track) == (0, 0)


async def test_the_withdrawal_that_arrives_just_after_the_end_removes_what_came_of_it(
    acquiring: Acquiring, service: Separation, track: Track
) -> None:
    answered, going_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        answered.set()
        await going_on.wait()

    service.before_answer = hold
    job = await begin(acquiring, service, "anna", track)
    assert await service.finish()
    async with asyncio.timeout(60):
        await answered.wait()
    await cancel(acquiring, job)
    assert await stems_of(acquiring, track) == (0, 0)


async def test_a_pipeline_that_does_not_know_of_the_withdrawal_keeps_no_stems_without_objects(
    acquiring: Acquiring, service: Separation, track: Track
) -> None:
    job = ""

    async def withdraw() -> None:
        await acquiring.pipeline.withdraw(acquiring.jobs, job)

    service.before_answer = withdraw
    job = await begin(acquiring, service, "anna", track)
    assert await service.finish()
    ended = await acquiring.end_of(job)
    assert ended.error is not None
    assert ended.error["reason"] == "STEMS_MISSING"
    assert await stems_of(acquiring, track) == (0, 0)


async def test_what_the_track_has_already_stays_when_the_withdrawal_comes(
    acquiring: Acquiring, service: Separation, track: Track
) -> None:
    job = await begin(acquiring, service, "anna", track)
    assert await service.finish()
    assert (await acquiring.end_of(job)).state == "succeeded"
    await service.cancel("separation", f"{job}.separation")
    await acquiring.remover.remove([key for key in await acquiring.keys() if key.startswith("stems/")])
    assert await stems_of(acquiring, track) == (1, 2)


async def test_of_several_who_wait_the_last_to_withdraw_removes_what_came_of_it(
    acquiring: Acquiring, service: Separation, track: Track, tmp_path: Path
) -> None:
    his = await acquiring.upload("ben", with_soundfile(tmp_path / "song.wav", music(2)))
    service.before_answer = asyncio.Event().wait  # nobody learns of the end
    mine = await begin(acquiring, service, "anna", track)
    other = await begin(acquiring, service, "ben", his)
    assert await service.finish()
    await cancel(acquiring, mine)
    assert await stems_of(acquiring, track) == (0, 2)
    await cancel(acquiring, other)
    assert await stems_of(acquiring, track) == (0, 0)


async def test_a_job_that_was_given_up_leaves_no_work_behind(
    acquiring: Acquiring, service: Separation, track: Track
) -> None:
    service.before_answer = asyncio.Event().wait
    job = await begin(acquiring, service, "anna", track)
    leases = acquiring.jobs._leases
    (given_up,) = leases.take_silent(leases.beats(), 1, worker_died(1))
    assert (given_up.id, given_up.state) == (job, "failed")
    assert await service.finish()
    await acquiring.pipeline.withdraw_outstanding(acquiring.jobs)
    assert await stems_of(acquiring, track) == (0, 0)
