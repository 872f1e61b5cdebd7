"""A client that uses only gRPC."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, Self

import grpc.aio
import pytest

from services.common.rpc.client import RemoteError, domain_error, final_answer
from stemtube.auth.v1 import session_pb2, session_pb2_grpc
from stemtube.download.v1 import media_pb2_grpc, track_pb2_grpc, upload_pb2, upload_pb2_grpc
from tests.suite.running import Suite

CHUNK_BYTES = 1 << 18


class GrpcClient:
    """Stubs of the services for signing in and for a user's library.

    Args:
        suite: runs the services.
        library: name of the library's process.
    """

    def __init__(self, suite: Suite, library: str = "download") -> None:
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{suite.ports[name]}", options=[("grpc.enable_http_proxy", 0)])
            for name in ("auth", library)
        ]
        self.sessions: Any = session_pb2_grpc.SessionServiceStub(self._channels[0])
        self.tracks: Any = track_pb2_grpc.TrackServiceStub(self._channels[1])
        self.uploads: Any = upload_pb2_grpc.UploadServiceStub(self._channels[1])
        self.media: Any = media_pb2_grpc.MediaServiceStub(self._channels[1])
        self.metadata: tuple[tuple[str, str], ...] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for channel in self._channels:
            await channel.close()

    async def sign_in(self, username: str, password: str) -> None:
        answer = await self.sessions.Login(session_pb2.LoginRequest(username=username, password=password))
        self.metadata = (("authorization", f"Bearer {answer.session.access_token}"),)

    async def upload(self, path: Path) -> upload_pb2.UploadTrackResponse:
        content = path.read_bytes()  # noqa: ASYNC240  # a small file, and nobody else waits

        async def requests() -> AsyncIterator[upload_pb2.UploadTrackRequest]:
            yield upload_pb2.UploadTrackRequest(header=upload_pb2.UploadHeader(filename=path.name))
            for start in range(0, len(content), CHUNK_BYTES):
                yield upload_pb2.UploadTrackRequest(chunk=content[start : start + CHUNK_BYTES])

        answer: upload_pb2.UploadTrackResponse = await final_answer(
            self.uploads.UploadTrack(requests(), metadata=self.metadata)
        )
        return answer


async def refusal(call: Awaitable[Any]) -> RemoteError:
    """The error of a refused call."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return domain_error(refused.value)
