"""The services' RPCs that take over another installation, as an admin calls them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import grpc.aio

from cli.api import ApiError
from services.common.config import AddressSettings
from services.common.errors import Code, StemTubeError
from services.common.rpc.auth import bearer
from services.common.rpc.client import domain_error, final_answer, open_channel
from stemtube.auth.v1 import import_pb2 as auth_import
from stemtube.auth.v1 import import_pb2_grpc as auth_import_grpc
from stemtube.auth.v1 import session_pb2, session_pb2_grpc
from stemtube.download.v1 import import_pb2 as pb
from stemtube.download.v1 import import_pb2_grpc

CHUNK = 512 * 1024
CALL_SECONDS = 60.0
# A long song is sent, decoded, and converted.
FILE_SECONDS = 1800.0
# What another file or another song would meet too.
_AWAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
_FOR_ALL = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.UNIMPLEMENTED)


class ImportServices:
    """Signed in with auth and download; an asynchronous context.

    Every call raises StemTubeError where the service refuses this one thing, and ApiError where it would be no use to
    go on.

    Args:
        address: where the services are.
        username: an admin.
        password: the admin's.
    """

    def __init__(self, address: AddressSettings, username: str, password: str) -> None:
        self._address = address
        self._credentials = session_pb2.LoginRequest(username=username, password=password)
        self._renew_at = 0.0
        self._session = session_pb2.Session()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        auth = await self._resources.enter_async_context(open_channel(self._address.auth))
        download = await self._resources.enter_async_context(open_channel(self._address.download))
        self._sessions: Any = session_pb2_grpc.SessionServiceStub(auth)
        self._user_import: Any = auth_import_grpc.UserImportServiceStub(auth)
        self._library: Any = import_pb2_grpc.ImportServiceStub(download)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._sign_out()
        await self._resources.aclose()

    async def import_users(
        self, users: Iterable[auth_import.UserToImport], *, dry_run: bool
    ) -> list[auth_import.ImportedUser]:
        """Takes over users, or tells what would come of it; in their order."""
        request = auth_import.ImportUsersRequest(users=users, dry_run=dry_run)
        return list((await self._call(self._user_import.ImportUsers, request)).users)

    async def look_up(self, user_ids: Sequence[str], link: str, sha256: str) -> pb.LookUpImportResponse:
        """What of a track is there."""
        request = pb.LookUpImportRequest(user_ids=user_ids, source_url=link, audio_sha256=sha256)
        found: pb.LookUpImportResponse = await self._call(self._library.LookUpImport, request)
        return found

    async def import_track(self, header: pb.ImportTrackHeader, file: Path | None) -> list[pb.ImportedTrack]:
        """Takes over a track; without a file where its audio is there."""
        requests = _stream(pb.ImportTrackRequest, header, file)
        return list((await self._call(self._library.ImportTrack, requests)).tracks)

    async def import_stem(self, header: pb.ImportStemHeader, file: Path) -> None:
        """Takes over a stem."""
        await self._call(self._library.ImportStem, _stream(pb.ImportStemRequest, header, file))

    async def import_part(self, request: pb.ImportPartRequest) -> None:
        """Takes over a part."""
        await self._call(self._library.ImportPart, request)

    async def _call(self, method: Callable[..., Any], request: Any) -> Any:
        is_stream = hasattr(request, "__aiter__")
        try:
            metadata = bearer(await self._token())
            call = method(request, metadata=metadata, timeout=FILE_SECONDS if is_stream else CALL_SECONDS)
            return await (final_answer(call) if is_stream else call)
        except grpc.aio.AioRpcError as error:
            refusal: StemTubeError = domain_error(error)
        if refusal.code in _AWAY:
            raise ApiError(
                f"no StemTube answers at {self._address.auth} and {self._address.download}, or not in time; "
                "what was taken over is kept: run it again once it does"
            )
        if refusal.code in _FOR_ALL:
            raise ApiError(refusal.message)
        raise refusal

    async def _token(self) -> str:
        """An access token that is good for long enough; an import can take hours."""
        if time.monotonic() >= self._renew_at:
            await self._sign_out()
            answer: Awaitable[Any] = self._sessions.Login(self._credentials, timeout=CALL_SECONDS)
            self._session = (await answer).session
            self._renew_at = time.monotonic() + self._session.expires_in.ToTimedelta().total_seconds() / 2
        return self._session.access_token

    async def _sign_out(self) -> None:
        if token := self._session.refresh_token:
            self._session = session_pb2.Session()
            try:
                await self._sessions.Logout(session_pb2.LogoutRequest(refresh_token=token), timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError:
                return  # The session ends by itself.


async def _stream(request: Any, header: Any, file: Path | None) -> AsyncIterator[Any]:
    yield request(header=header)
    if file is None:
        return
    with file.open("rb") as content:
        while chunk := await asyncio.to_thread(content.read, CHUNK):
            yield request(chunk=chunk)
