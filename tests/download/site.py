"""A web site with files, some of which come slowly or not at all."""

import asyncio
import mimetypes
from collections import Counter
from pathlib import Path

from aiohttp import web

PIECES = 20


class Site:
    """Serves what is put into `files` by address; `sent` counts the files that were sent to their last byte.

    Args:
        slow_seconds: how long each file takes.
    """

    def __init__(self, slow_seconds: float = 0.0) -> None:
        self.files: dict[str, Path] = {}
        self.sent: Counter[str] = Counter()
        self.slow_seconds = slow_seconds
        self.hanging = 0
        self._runner = web.AppRunner(self._app(), shutdown_timeout=0.1)
        self.url = ""

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/{name:.*}", self._answer)])
        return app

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    def put(self, path: Path) -> str:
        """Serves a file, and tells where."""
        self.files[path.name] = path
        return f"{self.url}/{path.name}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self.files:
            raise web.HTTPNotFound
        if self.hanging:
            self.hanging -= 1
            await asyncio.sleep(60)
        content = self.files[name].read_bytes()
        kind = mimetypes.guess_type(name)[0] or "audio/flac"
        response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(content))})
        await response.prepare(request)
        size = len(content) // PIECES + 1
        for start in range(0, len(content), size):
            await response.write(content[start : start + size])
            await asyncio.sleep(self.slow_seconds / PIECES)
        await response.write_eof()
        self.sent[name] += 1
        return response
