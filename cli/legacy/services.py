"""A client of the services' RPCs for imports, for admins."""

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
# In this time a long song must be sent, decoded and converted.
FILE_SECONDS = 1800.0
# Errors that would occur for other files and songs as well.
_AWAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
_FOR_ALL = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.UNIMPLEMENTED)


class ImportServices:
    """A client of auth and download that signs in; an asynchronous context.

    Every call raises StemTubeError if the service refuses only this item, and ApiError if further calls would fail too.

    Args:
        address: of the services.
        username: name of an admin.
        password: of the admin.
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
        """Imports users, or only reports the outcome; returns it in the order of the users."""
        request = auth_import.ImportUsersRequest(users=users, dry_run=dry_run)
        return list((await self._call(self._user_import.ImportUsers, request)).users)

    async def look_up(self, user_ids: Sequence[str], link: str, sha256: str) -> pb.LookUpImportResponse:
        """Returns the parts of a track that exist already."""
        request = pb.LookUpImportRequest(user_ids=user_ids, source_url=link, audio_sha256=sha256)
        found: pb.LookUpImportResponse = await self._call(self._library.LookUpImport, request)
        return found

    async def import_track(self, header: pb.ImportTrackHeader, file: Path | None) -> list[pb.ImportedTrack]:
        """Imports a track; the file is not needed if the library has its audio."""
        requests = _stream(pb.ImportTrackRequest, header, file)
        return list((await self._call(self._library.ImportTrack, requests)).tracks)

    async def import_stem(self, header: pb.ImportStemHeader, file: Path) -> None:
        """Imports a stem."""
        await self._call(self._library.ImportStem, _stream(pb.ImportStemRequest, header, file))

    async def import_part(self, request: pb.ImportPartRequest) -> None:
        """Imports a part."""
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
        """An access token that is valid long enough, renewed if necessary, since an import can take hours."""
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
