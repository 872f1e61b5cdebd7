"""Stems that no quota counts are removed: those beyond a quota, and those that were replaced."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.common.jobs.queue import JobQueue, job_key
from services.common.jobs.records import JobRecord
from services.common.storage.marked_store import MARKER
from services.download.pipeline.plan import make_plan
from services.download.tables import Track
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2
from tests.common.audio_files import with_soundfile
from tests.common.postgres import create_database
from tests.download.conftest import RunningLibrary

STEM, PEAKS = 1000, 20
SET = 2 * (STEM + PEAKS)
FACTS: dict[str, Any] = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
LYRICS = [pb.AnalysisChoice(part=analysis_pb2.PART_LYRICS)]


class Services:
    """Separation and analysis without networks: real queues of requests, and results of arbitrary bytes."""

    def __init__(self, queue: JobQueue, library: RunningLibrary) -> None:
        self.is_away = False
        self.listening = asyncio.Event()
        self.going_on = asyncio.Event()
        self.heard: list[bool] = []
        self._queue = queue
        self._leases = queue._leases
        self._objects = library.objects

    async def separate(self, request: Any, _on_update: Any, _on_away: Any) -> separation_pb2.Separation:
        record = await self._queue.submit(
            "separation",
            {},
            key=job_key(request.audio_key, request.model, request.overlap),
            user=request.on_behalf_of,
            request_id=request.request_id,
        )
        while job := self._leases.claim(record.id):
            stems = [await self._stem(job.id, name) for name in ("vocals", "drums")]
            self._leases.finish(job.id, record.id, "succeeded", {"stems": stems}, None)
        async for latest in self._queue.watch(record.id):
            record = latest
        stems = (record.result or {})["stems"]
        return separation_pb2.Separation(
            job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED),
            model=request.model,
            stems=[separation_pb2.Stem(**stem) for stem in stems],
        )

    async def _stem(self, job: str, name: str) -> dict[str, Any]:
        key = f"stems/{job}/{name}.flac"
        await self._objects.put(key, bytes(STEM))
        await self._objects.put(f"{key}.peaks", bytes(PEAKS))
        return {"name": name, "audio_key": key, "peaks_key": f"{key}.peaks", **FACTS}

    async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
        self.listening.set()
        await self.going_on.wait()
        self.heard.append(await self._objects.exists(request.audio_key))
        parts = [analysis_pb2.PartStatus(part=part.part, state=job_pb2.JOB_STATE_SUCCEEDED) for part in request.parts]
        for part in parts:
            part.lyrics.SetInParent()
        analysis = analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED), parts=parts)
        await on_update(analysis)
        return analysis

    async def cancel(self, part: str, request_id: str) -> list[str] | None:
        if self.is_away or not part.startswith("separation"):
            return None if self.is_away else []
        await self._queue.cancel_request(request_id)
        record = await self._queue.give_up_result(request_id)
        stems = (record.result or {})["stems"] if record else []
        return [key for stem in stems for key in (stem["audio_key"], stem["peaks_key"])]


@pytest.fixture(params=["sqlite", "postgresql"])
def section(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"database_url": create_database()} if request.param == "postgresql" else {}


@pytest.fixture
async def services(library: RunningLibrary, tmp_path: Path) -> AsyncIterator[Services]:
    queue = JobQueue(f"sqlite:///{tmp_path}/separation.sqlite", "separation-test")
    await queue.start()
    services = Services(queue, library)
    library.use(services)
    yield services
    await queue.close()


@pytest.fixture
async def track(library: RunningLibrary, tmp_path: Path) -> Track:
    return await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))


async def start(library: RunningLibrary, track: Track, choice: pb.SeparationChoice, lyrics: Any = ()) -> str:
    plan = make_plan(pb.ProcessingOptions(separations=[choice], analyses=lyrics))
    return await library.start("anna", track.id, plan)


async def ends_of(library: RunningLibrary, jobs: list[str]) -> list[JobRecord]:
    return await asyncio.gather(*(library.end_of(job) for job in jobs))


async def stored_bytes(library: RunningLibrary, prefix: str | None = None) -> int:
    """Bytes of all objects in the store, or of those below a prefix."""
    return sum([info.size async for info in library.objects.list(prefix) if info.key != MARKER])


async def test_stems_without_room_are_removed(library: RunningLibrary, services: Services, track: Track) -> None:
    before = (await library.usage.of("anna")).used_bytes
    await library.usage.set_quota("anna", before + 2 * SET + STEM)
    choices = [pb.SeparationChoice(model=f"m{number}") for number in range(6)]
    ended = await ends_of(library, [await start(library, track, choice) for choice in choices])
    reasons = [job.error["reason"] for job in ended if job.error]
    # A separation may be refused because of another one that is refused later.
    assert 4 <= len(reasons) <= 6
    assert set(reasons) == {"QUOTA_EXCEEDED"}
    assert await stored_bytes(library, "stems") == (6 - len(reasons)) * SET
    assert await stored_bytes(library) == (await library.usage.of("anna")).used_bytes


async def test_stems_without_room_are_removed_when_their_service_is_back(
    library: RunningLibrary, services: Services, track: Track
) -> None:
    await library.usage.set_quota("anna", (await library.usage.of("anna")).used_bytes + STEM)
    services.is_away = True
    (ended,) = await ends_of(library, [await start(library, track, pb.SeparationChoice(model="m"))])
    assert ended.error is not None
    assert ended.error["reason"] == "QUOTA_EXCEEDED"
    assert await stored_bytes(library, "stems") == SET
    services.is_away = False
    await library.pipeline.withdraw_outstanding(library.jobs)
    assert await stored_bytes(library, "stems") == 0


async def test_replaced_stems_are_removed_at_once_except_vocals_that_a_job_uses(
    library: RunningLibrary, services: Services, track: Track
) -> None:
    choices = [pb.SeparationChoice(model="m", overlap=number / 10) for number in range(8)]
    listener = await start(library, track, choices[0], LYRICS)
    async with asyncio.timeout(30):
        await services.listening.wait()
    ended = await ends_of(library, [await start(library, track, choice) for choice in choices[1:]])
    assert [job.state for job in ended] == ["succeeded"] * 7
    assert await stored_bytes(library, "stems") == SET + STEM
    services.going_on.set()
    assert (await library.end_of(listener)).state == "succeeded"
    assert services.heard == [True]
    assert await stored_bytes(library, "stems") == SET
    assert await stored_bytes(library) == (await library.usage.of("anna")).used_bytes


async def test_replaced_vocals_are_removed_when_the_job_that_uses_them_is_cancelled(
    library: RunningLibrary, services: Services, track: Track
) -> None:
    listener = await start(library, track, pb.SeparationChoice(model="m"), LYRICS)
    async with asyncio.timeout(30):
        await services.listening.wait()
    await ends_of(library, [await start(library, track, pb.SeparationChoice(model="m", overlap=0.1))])
    await library.jobs.cancel(listener)
    await library.pipeline.withdraw(library.jobs, listener)
    assert await stored_bytes(library, "stems") == SET


async def test_simultaneous_separations_with_lyrics_leave_one_set_of_stems(
    library: RunningLibrary, services: Services, track: Track
) -> None:
    services.going_on.set()
    choices = [pb.SeparationChoice(model="m", overlap=number / 10) for number in range(8)]
    ended = await ends_of(library, [await start(library, track, choice, LYRICS) for choice in choices])
    assert [job.state for job in ended] == ["succeeded"] * 8
    assert services.heard == [True] * 8
    assert await stored_bytes(library, "stems") == SET
