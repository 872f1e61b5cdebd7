"""Stems that nobody needs are removed, whether the separation ends before or after the withdrawal of its request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import UnavailableError
from services.common.jobs.errors import worker_died
from services.common.jobs.queue import JobQueue
from services.download.pipeline.plan import make_plan
from services.download.tables import Track
from services.download.tracks.versions import Kept, KeptStems
from songs.small_songs import music
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary

PLAN = make_plan(pb.ProcessingOptions(separations=[pb.SeparationChoice()]))


async def nothing() -> None:
    pass


class Separation:
    """The separation service without its model: a real queue, and the test as its worker."""

    def __init__(self, queue: JobQueue, library: RunningLibrary) -> None:
        self.queue = queue
        self.is_away = False
        self.before_answer: Callable[[], Awaitable[object]] = nothing
        self.asked = asyncio.Event()
        self._library = library
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
        """Ends the job at its second attempt. Returns whether the attempt counted."""
        (job,) = await self.queue.unfinished()
        self._leases.claim("first")
        self._leases.release(job.id, "first")
        self._leases.claim("second")
        key = f"stems/{job.id}/second/vocals.flac"
        facts: dict[str, Any] = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
        stem = {"name": "vocals", "audio_key": key, "peaks_key": f"{key}.peaks", **facts}
        for name in (key, f"{key}.peaks"):
            await self._library.objects.put(name, b"sound")
        return self._leases.finish(job.id, "second", "succeeded", {"stems": [stem]}, None)


@pytest.fixture
async def service(library: RunningLibrary, tmp_path: Path) -> AsyncIterator[Separation]:
    queue = JobQueue(f"sqlite:///{tmp_path}/separation.sqlite", "separation-test")
    await queue.start()
    service = Separation(queue, library)
    library.use(service)
    yield service
    await queue.close()


@pytest.fixture
async def track(library: RunningLibrary, tmp_path: Path) -> Track:
    return await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))


async def begin(library: RunningLibrary, service: Separation, user: str, track: Track) -> str:
    service.asked.clear()
    job = await library.start(user, track.id, PLAN)
    async with asyncio.timeout(60):
        await service.asked.wait()
    return job


async def cancel(library: RunningLibrary, job: str) -> None:
    await library.jobs.cancel(job)
    await library.pipeline.withdraw(library.jobs, job)


async def stems_of(library: RunningLibrary, track: Track) -> tuple[int, int]:
    """The number of the track's stems, and of objects of stems in the store."""
    data = await library.tracks.track(track.id)
    assert data is not None
    return len(data.stems), len([key for key in await library.keys() if key.startswith("stems/")])


async def test_a_withdrawal_that_does_not_arrive_is_repeated(
    library: RunningLibrary, service: Separation, track: Track
) -> None:
    job = await begin(library, service, "anna", track)
    service.is_away = True
    await cancel(library, job)
    assert await service.finish(), "the service does not know of the withdrawal"
    await library.pipeline.withdraw_outstanding(library.jobs)
    assert await stems_of(library, track) == (0, 2)
    service.is_away = False
    await library.pipeline.withdraw_outstanding(library.jobs)
    assert await stems_of(library, track) == (0, 0)
    assert await service.queue.counts() == {"cancelled": 1}


async def test_a_withdrawal_before_the_end_stops_the_work(
    library: RunningLibrary, service: Separation, track: Track
) -> None:
    job = await begin(library, service, "anna", track)
    await cancel(library, job)
    assert await service.queue.unfinished() == []
    await library.pipeline.withdraw_outstanding(library.jobs)
    assert await stems_of(library, track) == (0, 0)


async def test_a_withdrawal_just_after_the_end_removes_the_stems(
    library: RunningLibrary, service: Separation, track: Track
) -> None:
    answered, going_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        answered.set()
        await going_on.wait()

    service.before_answer = hold
    job = await begin(library, service, "anna", track)
    assert await service.finish()
    async with asyncio.timeout(60):
        await answered.wait()
    await cancel(library, job)
    assert await stems_of(library, track) == (0, 0)


async def test_a_job_keeps_no_stems_whose_objects_were_removed(
    library: RunningLibrary, service: Separation, track: Track
) -> None:
    job = ""

    async def withdraw() -> None:
        await library.pipeline.withdraw(library.jobs, job)

    service.before_answer = withdraw
    job = await begin(library, service, "anna", track)
    assert await service.finish()
    ended = await library.end_of(job)
    assert ended.error is not None
    assert ended.error["reason"] == "STEMS_MISSING"
    assert await stems_of(library, track) == (0, 0)


async def test_stems_of_a_track_stay_after_a_late_withdrawal(
    library: RunningLibrary, service: Separation, track: Track
) -> None:
    job = await begin(library, service, "anna", track)
    assert await service.finish()
    assert (await library.end_of(job)).state == "succeeded"
    await service.cancel("separation", f"{job}.separation")
    await library.remover.remove([key for key in await library.keys() if key.startswith("stems/")])
    assert await stems_of(library, track) == (1, 2)


async def test_the_last_of_several_withdrawals_removes_the_stems(
    library: RunningLibrary, service: Separation, track: Track, tmp_path: Path
) -> None:
    his = await library.upload("ben", with_soundfile(tmp_path / "song.wav", music(2)))
    service.before_answer = asyncio.Event().wait  # no job learns of the end
    mine = await begin(library, service, "anna", track)
    other = await begin(library, service, "ben", his)
    assert await service.finish()
    await cancel(library, mine)
    assert await stems_of(library, track) == (0, 2)
    await cancel(library, other)
    assert await stems_of(library, track) == (0, 0)


async def test_a_job_whose_worker_died_leaves_no_work_behind(
    library: RunningLibrary, service: Separation, track: Track
) -> None:
    service.before_answer = asyncio.Event().wait
    job = await begin(library, service, "anna", track)
    leases = library.jobs._leases
    (given_up,) = leases.take_silent(leases.beats(), 1, worker_died(1))
    assert (given_up.id, given_up.state) == (job, "failed")
    assert await service.finish()
    await library.pipeline.withdraw_outstanding(library.jobs)
    assert await stems_of(library, track) == (0, 0)


async def test_stems_that_nobody_keeps_are_withdrawn_after_the_outcome_is_stored(
    library: RunningLibrary, service: Separation, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that ended between the two once made the next one fail: its request was withdrawn."""
    withdrawals: list[bool] = []
    cancel, remove = service.cancel, library.remover.remove

    async def note(part: str, request_id: str) -> list[str] | None:
        job_id = request_id.partition(".")[0]
        withdrawals.append(library.jobs._leases.kept_step(job_id, "separation") is not None)
        return await cancel(part, request_id)

    async def without_store(keys: Iterable[str]) -> None:
        if list(keys):
            raise UnavailableError("The object store is away.", "STORE_AWAY")

    async def keep_none(*_arguments: Any, **_options: Any) -> KeptStems:
        return KeptStems(Kept.NOT, [])

    monkeypatch.setattr(service, "cancel", note)
    monkeypatch.setattr("services.download.pipeline.run.keep_stems", keep_none)
    monkeypatch.setattr(library.remover, "remove", without_store)
    job = await begin(library, service, "anna", track)
    assert await service.finish()
    ended = await library.end_of(job)
    assert (ended.state, ended.attempts, withdrawals) == ("succeeded", 1, [True])
    monkeypatch.setattr(library.remover, "remove", remove)
    await library.pipeline.withdraw_outstanding(library.jobs)
    assert await stems_of(library, track) == (0, 0)
