"""A request whose job is refused at the very end leaves nothing in the library."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import LimitExceededError
from services.common.rpc.auth import Identity, set_caller
from services.download.config import DownloadSettings
from services.download.pipeline.admission import Admission
from services.download.servicers import Servicers
from services.download.tables import Reservation
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2, track_pb2, upload_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.pipeline.test_jobs_per_user import Services
from tests.download.rpcs import running_servicers
from tests.download.site import Site

ANNA, BEN = Identity("anna", "anna", "user"), Identity("ben", "ben", "user")
KEY = track_job_pb2.ProcessingOptions(analyses=[track_job_pb2.AnalysisChoice(part=analysis_pb2.PART_KEY)])


@pytest.fixture
def section() -> dict[str, Any]:
    return {"jobs_per_user": 1}


@pytest.fixture
async def servicers(
    library: RunningLibrary, settings: DownloadSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Servicers]:
    """Anna has an unfinished job. The early check lets her in, as if that job had come a moment later."""

    async def passes(_admission: Admission, _user: str) -> None:
        pass

    library.use(Services())
    track = await library.upload("anna", with_soundfile(tmp_path / "first.wav", music(2)))
    async with running_servicers(library, settings) as servicers:
        set_caller(ANNA)
        await servicers.tracks.ProcessTrack(track_pb2.ProcessTrackRequest(track_id=track.id, options=KEY), None)
        monkeypatch.setattr(Admission, "expect_few_jobs", passes)
        yield servicers


async def titles(servicers: Servicers, *, deleted: bool = False) -> list[str]:
    found = await servicers.tracks.ListTracks(track_pb2.ListTracksRequest(deleted=deleted), None)
    return [track.title for track in found.tracks]


async def refused(call: Any) -> None:
    with pytest.raises(LimitExceededError) as refusal:
        await call
    assert refusal.value.reason == "TOO_MANY_JOBS"


async def end_jobs(library: RunningLibrary) -> None:
    for job in await library.jobs.unfinished("anna"):
        await library.jobs.cancel(job.id)


def upload_of(content: bytes) -> AsyncIterator[upload_pb2.UploadTrackRequest]:
    async def messages() -> AsyncIterator[upload_pb2.UploadTrackRequest]:
        yield upload_pb2.UploadTrackRequest(header=upload_pb2.UploadHeader(filename="song.wav", options=KEY))
        yield upload_pb2.UploadTrackRequest(chunk=content)

    return messages()


async def test_a_link_is_not_added_without_a_job(
    library: RunningLibrary, servicers: Servicers, site: Site, tmp_path: Path
) -> None:
    """Neither a new one, nor one whose audio another user has. It is added when there may be a job."""
    url = site.put(with_soundfile(tmp_path / "song.flac", music(2, seed=3)))
    request = track_pb2.CreateTrackRequest(url=url, request_id="add")
    await refused(servicers.tracks.CreateTrack(request, None))
    assert await titles(servicers) == ["first"]
    set_caller(BEN)
    created = await servicers.tracks.CreateTrack(track_pb2.CreateTrackRequest(url=url, options=KEY), None)
    while (await library.tracks.track_of("ben", created.track.id)).track.audio_key == "":
        await asyncio.sleep(0.01)
    while any(key.startswith("uploads/") for key in await library.keys()):
        await asyncio.sleep(0.01)
    keys = await library.keys()
    set_caller(ANNA)
    await refused(servicers.tracks.CreateTrack(request, None))
    assert await titles(servicers) == ["first"]
    assert await library.keys() == keys
    await end_jobs(library)
    assert (await servicers.tracks.CreateTrack(request, None)).track.id == created.track.id
    assert len(await titles(servicers)) == 2


async def test_a_file_is_not_added_without_a_job(library: RunningLibrary, servicers: Servicers, tmp_path: Path) -> None:
    content = await asyncio.to_thread(with_soundfile(tmp_path / "song.wav", music(2, seed=5)).read_bytes)
    keys = await library.keys()
    await refused(servicers.uploads.UploadTrack(upload_of(content), None))
    assert await titles(servicers) == ["first"]
    assert await library.keys() == keys
    await end_jobs(library)
    added = await servicers.uploads.UploadTrack(upload_of(content), None)
    assert added.track.id in {job.subject for job in await library.jobs.unfinished("anna")}
    # A song that was deleted before is deleted again.
    await servicers.tracks.UpdateTrack(track_pb2.UpdateTrackRequest(track_id=added.track.id, notes="mine"), None)
    await library.user_tracks.remove("anna", added.track.id)
    await end_jobs(library)
    await servicers.tracks.ProcessTrack(
        track_pb2.ProcessTrackRequest(track_id=(await only_track(servicers)).id, options=KEY), None
    )
    await refused(servicers.uploads.UploadTrack(upload_of(content), None))
    assert (await titles(servicers), await titles(servicers, deleted=True)) == (["first"], ["song"])
    await servicers.tracks.RestoreTrack(track_pb2.RestoreTrackRequest(track_id=added.track.id), None)
    assert (await library.tracks.track_of("anna", added.track.id)).access.notes == "mine"  # type: ignore[union-attr]


async def only_track(servicers: Servicers) -> track_pb2.Track:
    (track,) = (await servicers.tracks.ListTracks(track_pb2.ListTracksRequest(), None)).tracks
    return track


async def test_an_upload_in_pieces_waits_until_there_may_be_a_job(
    library: RunningLibrary, servicers: Servicers, tmp_path: Path
) -> None:
    content = await asyncio.to_thread(with_soundfile(tmp_path / "song.wav", music(2, seed=5)).read_bytes)
    announced = upload_pb2.CreateUploadRequest(filename="song.wav", size_bytes=len(content), options=KEY)
    upload = (await servicers.uploads.CreateUpload(announced, None)).upload

    async def append(offset: int) -> upload_pb2.Upload:
        async def messages() -> AsyncIterator[upload_pb2.AppendUploadRequest]:
            yield upload_pb2.AppendUploadRequest(header=upload_pb2.AppendHeader(upload_id=upload.id, offset=offset))
            yield upload_pb2.AppendUploadRequest(chunk=content[offset:])

        return (await servicers.uploads.AppendUpload(messages(), None)).upload

    await refused(append(0))
    assert await titles(servicers) == ["first"]
    async with library.tracks.database.read() as session:
        reserved = await session.get(Reservation, upload.id)
    assert reserved is not None
    assert reserved.size_bytes == len(content), "its pieces count"
    await end_jobs(library)
    done = await append(len(content) - 1)
    assert done.job_id
    assert sorted(await titles(servicers)) == ["first", "song"]


async def test_a_retried_link_is_not_added_without_a_job(
    library: RunningLibrary, servicers: Servicers, site: Site
) -> None:
    await end_jobs(library)
    request = track_pb2.CreateTrackRequest(url=f"{site.url}/gone.flac")
    failed = await library.end_of((await servicers.tracks.CreateTrack(request, None)).job.job.id)
    assert failed.state == "failed"
    first = await only_track(servicers)
    await servicers.tracks.ProcessTrack(track_pb2.ProcessTrackRequest(track_id=first.id, options=KEY), None)
    await refused(servicers.track_jobs.RetryJob(track_job_pb2.RetryJobRequest(job_id=failed.id), None))
    assert await titles(servicers) == ["first"]
