"""A client of the gateway, for the commands that use a running suite."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp

from cli.local.suite import is_this_machine
from services.common.jobs.states import FINISHED_JSON_NAMES

Json = dict[str, Any]
T = TypeVar("T")
CHUNK = 256 * 1024
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0
HEARTBEAT_SECONDS = 30.0
RECONNECT_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
FAILED = 4000  # WebSocket close codes from here on mean a permanent error


class ApiError(Exception):
    """The suite refused a request or does not answer; the message is for people.

    Attributes:
        status: the HTTP status, if the suite refused.
    """

    status = 0


class AwayError(ApiError):
    """The suite does not answer, or gives a wrong answer; another try may help."""


class _SignedOutError(ApiError):
    """The access token is no longer valid."""


class Api:
    """A client that signs in; an asynchronous context.

    Args:
        url: of the gateway.

    Attributes:
        must_change_password: whether the user can only `change_password`.

    Raises:
        ApiError: the address is invalid.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiError(f"{url!r} is not the address of a gateway, such as http://127.0.0.1:8080")
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession
        self._credentials = ("", "")
        self._token = ""
        self.must_change_password = False

    async def __aenter__(self) -> Self:
        parts = urlsplit(self._url)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
            # No proxy: it could send requests for this machine elsewhere.
            trust_env=not is_this_machine(self._url),
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            # A client that keeps cookies must send an Origin, as a browser does.
            headers={"Origin": f"{parts.scheme}://{parts.netloc}"},
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        # Otherwise the session's refresh token would stay valid for weeks.
        with contextlib.suppress(ApiError):
            if self._token:
                await self._call("POST", "/api/v1/auth/logout")
        await self._session.close()

    async def sign_in(self, username: str, password: str) -> None:
        """Signs in; later calls sign in again when the token has expired.

        Raises:
            ApiError: wrong name or password, or the suite does not answer.
        """
        self._credentials, self._token = (username, password), ""
        answer = await self._call("POST", "/api/v1/auth/login", json={"username": username, "password": password})
        self._token = str(answer["accessToken"])
        self.must_change_password = bool(answer["user"]["mustChangePassword"])

    async def change_password(self, new_password: str, *, end_tokens: bool = True) -> None:
        """Changes the password of the signed-in user and, if wanted, ends the user's API tokens.

        Raises:
            ApiError: the password cannot be used, or as for `get`.
        """
        username, password = self._credentials
        body = {"oldPassword": password, "newPassword": new_password, "endApiTokens": end_tokens}
        answer = await self._call("POST", "/api/v1/auth/password", json=body)
        self._credentials, self._token = (username, new_password), str(answer["accessToken"])
        self.must_change_password = False

    async def get(self, path: str) -> Json:
        """The answer of a GET.

        Raises:
            ApiError: the suite refuses, or does not answer.
        """
        return await self._call("GET", path)

    async def post(self, path: str, body: Json) -> Json:
        """The answer of a POST.

        Raises:
            ApiError: as for `get`.
        """
        return await self._call("POST", path, json=body)

    async def patch(self, path: str, body: Json) -> Json:
        """The answer of a PATCH.

        Raises:
            ApiError: as for `get`.
        """
        return await self._call("PATCH", path, json=body)

    async def add_link(self, url: str, options: Json | None = None) -> Json:
        """Adds a track from a link: {track, job}.

        Raises:
            ApiError: as for `get`.
        """
        return await self._call(
            "POST", "/api/v1/tracks", json={"url": url, **({"options": options} if options else {})}
        )

    async def upload(self, path: Path, on_progress: Callable[[float], None], options: Json | None = None) -> Json:
        """Adds a track from a file, which is streamed: {track, job}.

        Raises:
            ApiError: as for `get`, or the file cannot be read.
        """
        try:
            size = path.stat().st_size
            file = path.open("rb")
        except OSError as error:
            raise ApiError(f"{path} cannot be read: {error.strerror}") from None

        async def chunks() -> AsyncIterator[bytes]:
            sent = 0
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
                sent += len(chunk)
                on_progress(sent / size if size else 1.0)

        parameters = {"filename": path.name, **({"options": json.dumps(options)} if options else {})}
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with file:
            return await self._call(
                "POST",
                "/api/v1/tracks/upload",
                params=parameters,
                data=chunks(),
                headers=headers,
                # A file that is too large is refused before it is sent.
                expect100=True,
            )

    async def headers_of(self, method: str, path: str, **arguments: Any) -> Mapping[str, str]:
        """The headers of an answer.

        Raises:
            ApiError: as for `get`; with a body, also if the access token has expired, because it is not sent again.
        """
        return await self._signed_in(_headers, method, path, **arguments)

    async def follow(self, job_id: str) -> AsyncIterator[Json]:
        """Yields a job now and after each change, until it has ended; connects again when the connection breaks.

        Raises:
            ApiError: the suite stays away, or refuses.
        """
        away_since = time.monotonic()
        while time.monotonic() - away_since < PATIENCE_SECONDS:
            was_there = False
            try:
                async with contextlib.aclosing(self._watch(f"/api/v1/jobs/{job_id}/watch")) as messages:
                    async for message in messages:
                        was_there = True
                        yield message["job"]
                        if message["job"]["job"]["state"] in FINISHED_JSON_NAMES:
                            return
            except _SignedOutError:
                await self.sign_in(*self._credentials)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # the suite restarts, or the network is down for a while
            if was_there:  # the time limit starts now, because a job may not report for long
                away_since = time.monotonic()
            await asyncio.sleep(RECONNECT_SECONDS)
        raise ApiError(f"no StemTube answers at {self._url} any more; the job goes on once it runs again")

    async def _watch(self, path: str) -> AsyncGenerator[Json, None]:
        """Yields the messages of one WebSocket."""
        try:
            socket = await self._session.ws_connect(
                self._url + path, headers=self._headers, heartbeat=HEARTBEAT_SECONDS, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status == 401:
                raise _SignedOutError("not signed in") from None
            if 400 <= error.status < 500:
                raise ApiError(f"the job cannot be followed: {error.message} ({error.status})") from None
            raise
        refusal = ""
        async with socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                news = json.loads(message.data)
                if "error" in news:
                    refusal = news["error"]["message"]
                else:
                    yield news
        if socket.close_code == FAILED + 16:
            raise _SignedOutError(refusal)
        if refusal and (socket.close_code or 0) >= FAILED:
            raise ApiError(refusal)

    async def download(self, path: str, to: Path) -> None:
        """Saves the file at a path of the gateway, completely or not at all.

        Raises:
            ApiError: as for `get`, or the file cannot be saved.
        """
        async with self._answer("GET", path) as answer:
            await _write(answer, to)

    async def save(self, path: str, folder: Path) -> Path:
        """Saves the file at a path of the gateway in a folder, with the gateway's name for it; returns its path.

        Raises:
            ApiError: as for `download`.
        """
        async with self._answer("GET", path) as answer:
            name = answer.content_disposition.filename if answer.content_disposition else None
            # Only a name, on every system.
            to = folder / (PureWindowsPath(name or "").name.strip(". ") or "export")
            await _write(answer, to)
        return to

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    async def _call(self, method: str, path: str, **arguments: Any) -> Json:
        return await self._signed_in(_json, method, path, **arguments)

    async def _signed_in(
        self, read: Callable[[aiohttp.ClientResponse], Awaitable[T]], method: str, path: str, **arguments: Any
    ) -> T:
        """Reads an answer. Asks again if the access token has expired."""
        try:
            async with self._answer(method, path, **arguments) as answer:
                return await read(answer)
        except _SignedOutError:
            if "data" in arguments:
                raise  # it has been read already
        await self.sign_in(*self._credentials)
        async with self._answer(method, path, **arguments) as answer:
            return await read(answer)

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **arguments: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Gives a successful answer; all others are raised as ApiError."""
        url, own = self._url + path, self._headers | (headers or {})
        try:
            async with self._session.request(method, url, headers=own, **arguments) as answer:
                if answer.status >= 400:
                    is_signed_out = answer.status == 401 and self._token
                    refusal = (_SignedOutError if is_signed_out else ApiError)(await _message(answer))
                    refusal.status = answer.status
                    raise refusal
                yield answer
        except aiohttp.ClientConnectorError:
            start = ": start it with `stemtube up`" if is_this_machine(url) else ""
            raise AwayError(f"no StemTube answers at {self._url}{start}, or name another with --url") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise AwayError(f"{self._url} does not answer as it should: {error or type(error).__name__}") from None


async def _json(answer: aiohttp.ClientResponse) -> Json:
    found: Json = await answer.json()
    return found


async def _headers(answer: aiohttp.ClientResponse) -> Mapping[str, str]:
    return answer.headers


async def _write(answer: aiohttp.ClientResponse, to: Path) -> None:
    """Writes the content of an answer, completely or not at all; creates the file's folder."""
    draft = to.with_name(to.name + ".part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            async for chunk in answer.content.iter_chunked(CHUNK):
                await asyncio.to_thread(file.write, chunk)
        draft.replace(to)
    except (aiohttp.ClientError, TimeoutError):
        raise  # some of these are OSErrors of the network
    except OSError as error:
        raise ApiError(f"{to} cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


async def _message(answer: aiohttp.ClientResponse) -> str:
    """The message of a refusal, for people."""
    try:
        return str((await answer.json())["message"])
    except (aiohttp.ContentTypeError, ValueError, KeyError, TypeError):
        return f"the gateway answers {answer.status} {answer.reason}"
