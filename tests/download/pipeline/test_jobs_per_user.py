"""The limit on a user's unfinished jobs holds for simultaneous requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import LimitExceededError
from services.common.rpc.auth import Identity, set_caller
from services.download.config import DownloadSettings
from services.download.servicers import Servicers
from services.download.tables import Track
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2, track_pb2, upload_pb2
from tests.common.audio_files import with_soundfile
from tests.common.postgres import create_database
from tests.download.conftest import RunningLibrary
from tests.download.rpcs import running_servicers

MOST = 3
ANNA = Identity("anna", "anna", "user")


class Services:
    """An analysis that never ends."""

    async def analyse(self, _request: Any, _on_update: Any, _on_away: Any) -> None:
        await asyncio.Event().wait()

    async def cancel(self, _part: str, _request_id: str) -> list[str]:
        return []


@pytest.fixture(params=["sqlite", "postgresql"])
def section(request: pytest.FixtureRequest) -> dict[str, Any]:
    url = {"database_url": create_database()} if request.param == "postgresql" else {}
    return {"jobs_per_user": MOST, **url}


@pytest.fixture
async def servicers(library: RunningLibrary, settings: DownloadSettings) -> AsyncIterator[Servicers]:
    library.use(Services())
    async with running_servicers(library, settings) as servicers:
        yield servicers


@pytest.fixture
async def track(library: RunningLibrary, tmp_path: Path) -> Track:
    return await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))


async def process(servicers: Servicers, track: Track, number: int) -> None:
    set_caller(ANNA)
    choice = track_job_pb2.AnalysisChoice(part=analysis_pb2.PART_KEY, backend=f"b{number}")
    options = track_job_pb2.ProcessingOptions(analyses=[choice])
    await servicers.tracks.ProcessTrack(track_pb2.ProcessTrackRequest(track_id=track.id, options=options), None)


async def test_simultaneous_requests_do_not_exceed_the_limit(
    library: RunningLibrary, servicers: Servicers, track: Track
) -> None:
    calls = [process(servicers, track, number) for number in range(10)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    errors = [error for error in outcomes if isinstance(error, LimitExceededError)]
    assert [error.reason for error in errors] == ["TOO_MANY_JOBS"] * (10 - MOST)
    assert len(await library.jobs.unfinished("anna")) == MOST


async def test_a_resumable_upload_is_completed_when_the_user_may_have_another_job(
    library: RunningLibrary, servicers: Servicers, track: Track, tmp_path: Path
) -> None:
    set_caller(ANNA)
    content = await asyncio.to_thread(with_soundfile(tmp_path / "other.wav", music(2, seed=5)).read_bytes)
    announced = upload_pb2.CreateUploadRequest(filename="other.wav", size_bytes=len(content))
    upload = (await servicers.uploads.CreateUpload(announced, None)).upload

    async def append(offset: int) -> upload_pb2.Upload:
        async def messages() -> AsyncIterator[upload_pb2.AppendUploadRequest]:
            yield upload_pb2.AppendUploadRequest(header=upload_pb2.AppendHeader(upload_id=upload.id, offset=offset))
            yield upload_pb2.AppendUploadRequest(chunk=content[offset:])

        return (await servicers.uploads.AppendUpload(messages(), None)).upload

    for number in range(MOST):
        await process(servicers, track, number)
    with pytest.raises(LimitExceededError) as refused:
        await append(0)
    assert refused.value.reason == "TOO_MANY_JOBS"
    listed = await servicers.tracks.ListTracks(track_pb2.ListTracksRequest(), None)
    assert [shown.id for shown in listed.tracks] == [track.id]
    await library.jobs.cancel((await library.jobs.unfinished("anna"))[0].id)
    done = await append(len(content) - 1)
    assert done.track_id not in ("", track.id)
    assert len(await library.jobs.unfinished("anna")) == MOST
