"""Many clients and slow clients that upload to a real library by gRPC: memory, minimum rate, shares."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.common.errors import Code
from services.common.rpc.client import RemoteError
from songs.small_songs import music
from stemtube.download.v1 import upload_pb2 as pb
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client, reason
from tests.suite.conftest import add_user
from tests.suite.grpc_client import GrpcClient, refusal
from tests.suite.running import PASSWORD, PATIENCE_SECONDS, Suite

MIB = 1024 * 1024
STREAMS = 40
# Sent by each stream at once; less than a part, so that all of it is in flight.
SENT_BYTES = 7 * MIB
# For each stream while it sends: a message of 1 MiB, received and parsed. For all while they are only open.
MESSAGE_BYTES, OPEN_BYTES = 5 * MIB, 60 * MIB
BYTES_PER_SECOND, RATE_SECONDS = 1000, 2

UPLOAD_HEADER = pb.UploadHeader(filename="a.wav")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    settings = {
        "DOWNLOAD__UPLOAD_STREAMS_PER_USER": STREAMS,
        "DOWNLOAD__UPLOAD_STREAMS": 2 * STREAMS,
        "DOWNLOAD__UPLOAD_BYTES_PER_SECOND": BYTES_PER_SECOND,
        "DOWNLOAD__UPLOAD_RATE_SECONDS": RATE_SECONDS,
    }
    suite = Suite(tmp_path_factory.mktemp("streams"), settings=settings)
    try:
        suite.start("auth", "download", "gateway")
        asyncio.run(add_user(suite, "ben"))
        yield suite
    finally:
        for name in suite.processes:
            suite.kill(name)


@pytest.fixture
async def ann(suite: Suite) -> AsyncIterator[GrpcClient]:
    async with GrpcClient(suite) as client:
        await client.sign_in("admin", PASSWORD)
        yield client


@pytest.fixture
async def ben(suite: Suite) -> AsyncIterator[GrpcClient]:
    async with GrpcClient(suite) as client:
        await client.sign_in("ben", PASSWORD)
        yield client


async def created(client: GrpcClient, size: int) -> str:
    request = pb.CreateUploadRequest(filename="a.wav", size_bytes=size)
    return str((await client.uploads.CreateUpload(request, metadata=client.metadata)).upload.id)


async def offset_of(client: GrpcClient, upload_id: str) -> int:
    request = pb.GetUploadRequest(upload_id=upload_id)
    return int((await client.uploads.GetUpload(request, metadata=client.metadata)).upload.offset)


def append_header(upload_id: str) -> pb.AppendUploadRequest:
    return pb.AppendUploadRequest(header=pb.AppendHeader(upload_id=upload_id, offset=0))


class Sending:
    """A stream that sends `size` bytes, and then a few from time to time."""

    def __init__(self, client: GrpcClient, rpc: str, header: Any, size: int, then: int = 1) -> None:
        self.sent = asyncio.Event()
        self._request = type(header)
        self._rest = (header, size, then)
        self.call = getattr(client.uploads, rpc)(self._messages(), metadata=client.metadata)

    async def _messages(self) -> AsyncIterator[Any]:
        header, size, then = self._rest
        yield header
        for start in range(0, size, MIB):
            yield self._request(chunk=bytes(min(MIB, size - start)))
        self.sent.set()
        while True:
            await asyncio.sleep(0.2)
            yield self._request(chunk=bytes(then))


async def test_streams_of_one_user_take_little_memory_and_another_users_upload_ends(
    suite: Suite, ann: GrpcClient, ben: GrpcClient, tmp_path: Path
) -> None:
    await ben.upload(with_soundfile(tmp_path / "first.wav", music(1, seed=1)))  # start the child that checks files
    process = psutil.Process(suite.processes["download"].pid)
    before = process.memory_info().rss
    uploads = [await created(ann, 20 * MIB) for _ in range(STREAMS)]
    async with AsyncExitStack() as stack:
        streams = [
            Sending(ann, "AppendUpload", append_header(upload), SENT_BYTES, BYTES_PER_SECOND) for upload in uploads
        ]
        for stream in streams:
            stack.callback(stream.call.cancel)
        peak = 0
        async with asyncio.timeout(100):
            sent = asyncio.gather(*(stream.sent.wait() for stream in streams))
            while not sent.done():
                peak = max(peak, process.memory_info().rss - before)
                await asyncio.sleep(0.05)
        assert peak < STREAMS * MESSAGE_BYTES, f"{peak / MIB:.0f} MiB while {STREAMS} streams sent 7 MiB each"
        refused = await refusal(Sending(ann, "AppendUpload", append_header(uploads[0]), 1).call)
        assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        answer = await ben.upload(with_soundfile(tmp_path / "song.wav", music(1, seed=2)))
        assert answer.track.id
        assert not any(stream.call.done() for stream in streams)
        # Bytes that gRPC has taken from the client may not be on the disk yet.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while process.memory_info().rss - before > OPEN_BYTES:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("rpc", [pytest.param("AppendUpload", marks=pytest.mark.long), "UploadTrack"])
async def test_a_slow_stream_is_ended_and_its_bytes_are_kept(ann: GrpcClient, rpc: str) -> None:
    upload_id = await created(ann, 1000)
    append = rpc == "AppendUpload"
    header = append_header(upload_id) if append else pb.UploadTrackRequest(header=UPLOAD_HEADER)
    slow = Sending(ann, rpc, header, 300)
    async with asyncio.timeout(60):
        refused = await refusal(slow.call)
    assert (refused.code, refused.reason) == (Code.DEADLINE_EXCEEDED, "TOO_SLOW")
    if append:
        assert 300 <= await offset_of(ann, upload_id) < 330


async def test_a_stream_on_which_nothing_comes_is_ended(ann: GrpcClient) -> None:
    async def silence() -> AsyncIterator[pb.UploadTrackRequest]:
        await asyncio.Event().wait()
        yield pb.UploadTrackRequest()

    async with asyncio.timeout(60):
        refused: RemoteError = await refusal(ann.uploads.UploadTrack(silence(), metadata=ann.metadata))
    assert refused.reason == "TOO_SLOW"


async def test_a_body_that_trickles_through_the_gateway_is_a_408(suite: Suite) -> None:
    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield b"RIFF"
            await asyncio.sleep(0.5)

    async with Client(suite.url) as client:
        await client.sign_in("ben", PASSWORD)
        async with asyncio.timeout(60):
            status, answer = await client.call(
                "POST", "/tracks/upload", data=slow(), headers={"Content-Type": "audio/wav"}
            )
    assert (status, reason(answer)) == (408, "TOO_SLOW")
