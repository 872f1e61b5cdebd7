"""A running suite with a song, and a browser; skipped if there is no Chromium or the page is not built.

All of it ends with the last test of the folder, whose tests share a process (`tests/conftest.py`): Playwright's event
loop occupies the thread as long as the browser is open.
"""

import asyncio
import io
import os
import shutil
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from gateway.frontend import BUILT
from services.common import audio
from songs.song import short_song
from tests.page.sound_tap import RATE_HZ, put_tap
from tests.suite.client import Client, Json
from tests.suite.running import PASSWORD, Suite

T = TypeVar("T")
TITLE = "Morning Light"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox: it needs rights that containers do not give, and the browser loads only our own pages. The other options
# prevent requests for updates to Google's hosts.
FLAGS = (
    *("--no-sandbox", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
expect.set_options(timeout=20_000)


def elsewhere(work: Coroutine[Any, Any, T]) -> T:
    """Runs asynchronous work in a thread without Playwright, and returns its result."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = os.environ.get("STEMTUBE_TEST_BROWSER") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium here: `apt-get install chromium`, or name one in STEMTUBE_TEST_BROWSER")
    if not (BUILT / "index.html").is_file():
        pytest.skip("the page is not built: `make page`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def suite(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("suite"))
    try:
        suite.start("auth", "separation", "analysis", "download", "gateway")
        yield suite
    finally:
        suite.stop()


@pytest.fixture(scope="package")
def song_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / f"{TITLE}.flac"
    audio.encode(short_song().mix, RATE_HZ, path, "flac")
    return path


@pytest.fixture(scope="package")
def track(suite: Suite, song_file: Path) -> Json:
    """The song with all its results."""

    async def processed() -> Json:
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            job = (await client.uploaded(song_file))["job"]
            await client.end_of(job["job"]["id"])
            return dict((await client.get(f"/tracks/{job['trackId']}"))["track"])

    return elsewhere(processed())


@pytest.fixture(scope="package")
def stems(suite: Suite, track: Json) -> dict[str, npt.NDArray[np.float32]]:
    """The stems as the library stores them: float32 [channels, samples]."""

    async def fetched() -> dict[str, bytes]:
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            paths = {stem["name"]: stem["audio"].removeprefix("/api/v1") for stem in track["stems"]}
            return {name: (await client.bytes(path))[1] for name, path in paths.items()}

    return {
        name: soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T
        for name, data in elsewhere(fetched()).items()
    }


@pytest.fixture
def context(browser: Browser, suite: Suite) -> Iterator[BrowserContext]:
    """A new browser context."""
    context = browser.new_context(base_url=suite.url, viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page with a signed-in user; an error of a script fails the test."""
    yield from signed_in(context)


@pytest.fixture
def listening(browser: Browser, suite: Suite) -> Iterator[Page]:
    """The same with a tap on its sound, which the page's content security policy would block."""
    context = browser.new_context(base_url=suite.url, bypass_csp=True)
    put_tap(context)
    yield from signed_in(context)
    context.close()


def signed_in(context: BrowserContext) -> Iterator[Page]:
    """A page in a context, signed in as admin; an error of a script fails the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    answer = context.request.post("/api/v1/auth/login", data={"username": "admin", "password": PASSWORD})
    assert answer.ok
    yield page
    assert not errors
