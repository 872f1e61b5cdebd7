"""A client of the gateway: what the command line asks of a running suite."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import aiohttp

Json = dict[str, Any]
FINAL = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")
CHUNK = 256 * 1024
RECONNECT_SECONDS = 0.5
TRIES_WITHOUT_NEWS = 60


class ApiError(Exception):
    """The suite refused, or does not answer; the message is for a person."""


class Api:
    """A signed-in client; an asynchronous context.

    Args:
        url: of the gateway.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession
        self._sign_in: tuple[str, str] = ("", "")
        self._token = ""

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=300)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._session.close()

    async def sign_in(self, username: str, password: str) -> None:
        """Signs in; later calls do so again when the token has expired.

        Raises:
            ApiError: wrong name or password, or nobody answers.
        """
        self._sign_in = (username, password)
        answer = await self._call("POST", "/api/v1/auth/login", json={"username": username, "password": password})
        self._token = answer["accessToken"]

    async def get(self, path: str) -> Json:
        """The answer of a GET.

        Raises:
            ApiError: the suite refuses.
        """
        return await self._call("GET", path)

    async def add_link(self, url: str) -> Json:
        """Adds a track from a link: {track, job}."""
        return await self._call("POST", "/api/v1/tracks", json={"url": url})

    async def upload(self, path: Path, on_progress: Callable[[float], None]) -> Json:
        """Adds a track from a file, streamed: {track, job}."""
        size = max(path.stat().st_size, 1)

        async def chunks() -> AsyncIterator[bytes]:
            sent = 0
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    yield chunk
                    sent += len(chunk)
                    on_progress(sent / size)

        name = f"?filename={quote(path.name)}"
        headers = {"Content-Type": "application/octet-stream"}
        return await self._call("POST", f"/api/v1/tracks/upload{name}", data=chunks(), headers=headers)

    async def follow(self, job_id: str) -> AsyncIterator[Json]:
        """A job as it is, then each change, up to its end; reconnects when the connection breaks.

        Raises:
            ApiError: the suite stays away, or refuses.
        """
        quiet = 0
        while quiet < TRIES_WITHOUT_NEWS:
            quiet += 1
            with contextlib.suppress(aiohttp.ClientConnectionError, aiohttp.WSServerHandshakeError):
                url = f"{self._url}/api/v1/jobs/{job_id}/watch"
                async with self._session.ws_connect(url, headers=self._headers, heartbeat=30) as socket:
                    async for message in socket:
                        news = json.loads(message.data)
                        if "error" in news:
                            raise ApiError(news["error"]["message"])
                        quiet = 0
                        yield news["job"]
                        if news["job"]["job"]["state"] in FINAL:
                            return
            await asyncio.sleep(RECONNECT_SECONDS)
        raise ApiError("the suite no longer answers; the job goes on when it does")

    async def download(self, path: str, to: Path) -> None:
        """Saves what a path below the gateway gives; a file is there whole or not at all."""
        draft = to.with_name(to.name + ".part")
        async with self._session.get(self._url + path, headers=self._headers) as answer:
            await _check(answer)
            with draft.open("wb") as file:
                async for chunk in answer.content.iter_chunked(CHUNK):
                    await asyncio.to_thread(file.write, chunk)
        draft.replace(to)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    async def _call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **arguments: Any) -> Json:
        url = self._url + path
        try:
            async with self._session.request(
                method, url, headers=self._headers | (headers or {}), **arguments
            ) as answer:
                if answer.status == 401 and self._token:
                    self._token = ""
                    await self.sign_in(*self._sign_in)
                    if "data" not in arguments:
                        return await self._call(method, path, headers=headers, **arguments)
                await _check(answer)
                found: Json = await answer.json()
                return found
        except aiohttp.ClientConnectionError as error:
            raise ApiError(f"no suite answers at {self._url} ({error}); start one with `stemtube up`") from None


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        try:
            message = (await answer.json())["message"]
        except (aiohttp.ContentTypeError, ValueError, KeyError):
            message = f"HTTP status {answer.status}"
        raise ApiError(message)
