"""Users do not wait for each other's requests: through the whole suite, with sites that never answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client
from tests.suite.running import Suite

PATIENCE_SECONDS = 120


class Site:
    """A site with a song at one address; it never answers at others."""

    def __init__(self, song: Path) -> None:
        self._song = song
        self.asked: set[str] = set()
        self.closing = asyncio.Event()
        app = web.Application()
        app.router.add_get("/song.flac", self._answer)
        app.router.add_get("/{name}", self._never)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.url = ""

    async def _answer(self, _request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._song)

    async def _never(self, request: web.Request) -> web.StreamResponse:
        self.asked.add(request.path)
        await self.closing.wait()
        raise web.HTTPNotFound


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(with_soundfile(tmp_path / "song.flac", music(1, seed=61)))
    await site.runner.setup()
    await web.TCPSite(site.runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{site.runner.addresses[0][1]}"
    yield site
    site.closing.set()
    await site.runner.cleanup()


async def test_hanging_look_ups_of_links_do_not_prevent_those_of_others(
    suite: Suite, client: Client, ben: Client, site: Site
) -> None:
    """Without shares, nine of them would make all requests end with 504."""
    async with aiohttp.ClientSession(f"{suite.url}", headers=ben.headers) as http:

        async def look_up(number: int) -> tuple[int, str]:
            async with http.get("/api/v1/links", params={"url": f"{site.url}/{number}"}) as answer:
                await answer.read()
                return answer.status, answer.headers.get("Retry-After", "")

        hanging = [asyncio.create_task(look_up(number)) for number in range(9)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            refused, _ = await asyncio.wait(hanging, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result()[0] for task in refused} == {429}
            # 503: a busy machine did not start a child in time.
            while (answer := await client.call("GET", f"/links?url={site.url}/song.flac"))[0] == 503:
                pass
            status, found = answer
            assert (status, found["song"]["title"]) == (200, "song")
            # Two ran, four waited for a turn, three were refused at once.
            ends = await asyncio.gather(*hanging)
    assert len(site.asked) >= 2
    assert {status for status, _ in ends} <= {429, 503}
    assert sum(status == 429 for status, _ in ends) >= 3
    assert all(bool(wait) for status, wait in ends if status == 429)
