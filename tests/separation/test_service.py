"""A request for a separation becomes a job, or is refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import AlreadyExistsError
from services.common.jobs.queue import JobQueue
from services.common.rpc.auth import Identity, set_caller
from services.common.rpc.draining import Draining
from services.common.storage.objects import ObjectStore
from services.common.weights.store import WeightStore
from services.separation.service import SeparationService
from stemtube.separation.v1 import separation_pb2 as pb

AUDIO = "originals/song"


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[JobQueue]:
    jobs = JobQueue(f"sqlite:///{tmp_path}/jobs.sqlite", "separation-test")
    await jobs.start()
    yield jobs
    await jobs.close()


async def test_a_different_request_with_a_used_id_is_refused(jobs: JobQueue, tmp_path: Path) -> None:
    objects = ObjectStore.from_url(str(tmp_path / "objects"))
    await objects.put(AUDIO, b"sound")
    set_caller(Identity("download", "download", "service"))
    service = SeparationService(jobs, objects, WeightStore(tmp_path / "models", offline=True), Draining())

    async def create(user: str = "anna", shifts: int | None = None, stems: tuple[str, ...] = ()) -> str:
        request = pb.CreateSeparationRequest(
            request_id="one", audio_key=AUDIO, model="spleeter_2stems", stems=stems, shifts=shifts, on_behalf_of=user
        )
        return (await service.CreateSeparation(request, None)).separation.job.id

    first = await create()
    assert await create() == first
    for other in (create(shifts=0), create(stems=("vocals",)), create("ben")):
        with pytest.raises(AlreadyExistsError) as refused:
            await other
        assert refused.value.reason == "REQUEST_ID_REUSED"
    assert len(await jobs.jobs_of("anna")) == 1
    assert await jobs.jobs_of("ben") == []
