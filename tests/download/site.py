"""A local web site with files. It can be slow, hang or break connections."""

import asyncio
import mimetypes
from collections import Counter
from pathlib import Path

from aiohttp import web

PIECES = 20


class Site:
    """Serves files. Names that begin with "hang" or "trickle" are never answered in full, and names that begin with
    "private" need the cookie `session=operator`.

    Args:
        slow_seconds: time for sending a file.

    Attributes:
        files: files by name.
        sent: how often each file was sent to its last byte.
        hanging: number of requests that are not answered from now on.
        asleep: number of requests for names that begin with "hang" or "trickle".
        resets: how many more times the connection is closed in the middle of a file.
        headers: replace the headers of every file.
        redirects: addresses by name.
        pages: HTML by name.
        asked: names of all requests, with their ranges.
        cookies: hosts and cookies of all requests.
    """

    def __init__(self, slow_seconds: float = 0.0) -> None:
        self.files: dict[str, Path] = {}
        self.sent: Counter[str] = Counter()
        self.slow_seconds = slow_seconds
        self.hanging = 0
        self.asleep = 0
        self.resets = 0
        self.headers: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.pages: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.cookies: list[tuple[str, dict[str, str]]] = []
        self._runner = web.AppRunner(self._app(), shutdown_timeout=0.1)
        self.url = ""

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/{name:.*}", self._answer)])
        return app

    async def start(self, host: str = "127.0.0.1") -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, host, 0).start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    def put(self, path: Path) -> str:
        """Adds a file and returns its address."""
        self.files[path.name] = path
        return f"{self.url}/{path.name}"

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        """Sends a byte every half second, of a file that would take weeks."""
        headers = {"Content-Type": "audio/flac", "Content-Length": "8000000"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        self.asleep += 1
        while True:
            await response.write(b"f")
            await asyncio.sleep(0.5)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.asked.append((name, request.headers.get("Range", "")))
        self.cookies.append((request.host.partition(":")[0], dict(request.cookies)))
        if name.startswith("private") and request.cookies.get("session") != "operator":
            raise web.HTTPForbidden
        if name.startswith("hang"):
            self.asleep += 1
            await asyncio.sleep(600)
        if name.startswith("trickle"):
            return await self._trickle(request)
        if name in self.redirects:
            raise web.HTTPFound(self.redirects[name])
        if name in self.pages:
            return web.Response(text=self.pages[name], content_type="text/html")
        if name not in self.files:
            raise web.HTTPNotFound
        if self.hanging:
            self.hanging -= 1
            await asyncio.sleep(60)
        content = self.files[name].read_bytes()
        kind = mimetypes.guess_type(name)[0] or "audio/flac"
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes"} | self.headers
        first = request.http_range.start or 0
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(
            status=206 if first else 200, headers=headers | {"Content-Length": str(len(content) - first)}
        )
        await response.prepare(request)
        size = len(content) // PIECES + 1
        for start in range(first, len(content), size):
            if self.resets and start > len(content) // 2 and request.transport:
                self.resets -= 1
                request.transport.abort()
                return response
            await response.write(content[start : start + size])
            await asyncio.sleep(self.slow_seconds / PIECES)
        await response.write_eof()
        self.sent[name] += 1
        return response
