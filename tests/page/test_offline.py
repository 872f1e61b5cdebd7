"""Songs and the page itself without a server, in a real browser."""

import asyncio
import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from playwright.sync_api import Browser, Page, expect

from gateway.frontend import BUILT, routes
from services.common import audio
from songs.song import short_song
from tests.page.conftest import TITLE, elsewhere
from tests.page.slow_proxy import SlowProxy
from tests.page.sound_tap import RATE_HZ
from tests.page.test_library import check_accessible
from tests.suite.client import Client, Json
from tests.suite.running import PASSWORD, Suite

STEMS_ONLY: Json = {"separations": [{}], "analyses": []}


@pytest.fixture(scope="module")
def suite(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The processes that are needed to make a song's stems."""
    suite = Suite(tmp_path_factory.mktemp("suite"))
    try:
        suite.start("auth", "separation", "download", "gateway")
        yield suite
    finally:
        suite.stop()


@pytest.fixture(scope="module")
def song_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of the song: its content does not matter here."""
    path = tmp_path_factory.mktemp("song") / f"{TITLE}.flac"
    audio.encode(short_song().mix[:, 4 * RATE_HZ : 10 * RATE_HZ], RATE_HZ, path, "flac")
    return path


@pytest.fixture(scope="module")
def track(suite: Suite, song_file: Path) -> Json:
    """The song with its stems."""

    async def processed() -> Json:
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            job = (await client.uploaded(song_file, STEMS_ONLY))["job"]
            await client.end_of(job["job"]["id"])
            return dict((await client.get(f"/tracks/{job['trackId']}"))["track"])

    result: Json = elsewhere(processed())
    return result


@pytest.fixture
def line(suite: Suite) -> Iterator[SlowProxy]:
    with SlowProxy(suite.ports["gateway"]).running() as line:
        yield line


def test_a_song_is_kept_plays_without_a_server_and_is_removed(page: Page, line: SlowProxy, track: Json) -> None:
    page.goto(line.url)
    page.evaluate("navigator.serviceWorker.ready")
    keep = page.get_by_role("button", name=f"Keep {TITLE} on this device")
    keep.click()
    expect(keep).to_have_attribute("aria-pressed", "true")
    expect(keep).to_have_attribute("title", re.compile(r"On this device: [\d.]+ MB"))

    line.break_off()
    page.reload()
    expect(page.get_by_text("These songs are kept on this device")).to_be_visible()
    check_accessible(page)
    page.get_by_role("link", name=TITLE).click()
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator(".meter div").first).to_have_attribute("style", re.compile(r"scaleX\(0\.[1-9]"))
    page.reload()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()

    line.broken = False
    page.goto(f"{line.url}/account")
    panel = page.get_by_role("region", name="On this device")
    expect(panel).to_contain_text(re.compile(rf"{TITLE} [\d.]+ MB"))
    page.get_by_role("button", name=f"Remove {TITLE} from this device").click()
    expect(panel).to_contain_text("Use ⤓ beside a song")
    assert page.evaluate("caches.open('songs').then(cache => cache.keys()).then(keys => keys.length)") <= 2


SLOW_CACHE = """
const keys = Cache.prototype.keys;
Cache.prototype.keys = async function (...wanted) {
  await new Promise((resolve) => setTimeout(resolve, 4000));
  return keys.apply(this, wanted);
};
"""


def test_a_song_that_is_removed_while_songs_are_updated_stays_removed(page: Page, line: SlowProxy, track: Json) -> None:
    """Each reconnection updates the kept songs, and a slow device needs time to remove one."""
    page.goto(line.url)
    page.evaluate("navigator.serviceWorker.ready")
    keep = page.get_by_role("button", name=f"Keep {TITLE} on this device")
    keep.click()
    expect(keep).to_have_attribute("aria-pressed", "true")
    page.add_init_script(SLOW_CACHE)
    page.goto(f"{line.url}/account")
    page.get_by_role("button", name=f"Remove {TITLE} from this device").click()
    line.break_off()
    line.broken = False
    panel = page.get_by_role("region", name="On this device")
    expect(panel).to_contain_text("Use ⤓ beside a song")
    page.wait_for_timeout(10_000)
    expect(panel).to_contain_text("Use ⤓ beside a song")
    assert not page.evaluate("caches.match('/kept.json').then(kept => kept.json()).then(kept => kept.songs.length)")


def test_kept_files_answer_ranges_like_the_server_and_are_updated(page: Page, track: Json) -> None:
    page.goto("/")
    page.evaluate("navigator.serviceWorker.ready")
    page.get_by_role("button", name=f"Keep {TITLE} on this device").click()
    expect(page.get_by_role("button", name=f"Keep {TITLE} on this device")).to_have_attribute("aria-pressed", "true")
    compare = """async ([path, ranges]) => {
        const ask = async (range, cache) => {
            const answer = await fetch(path, { headers: range ? { Range: range } : {}, cache });
            const digest = await crypto.subtle.digest("SHA-256", await answer.arrayBuffer());
            const { headers, status } = answer;
            return JSON.stringify([status, headers.get("Content-Range"), [...new Uint8Array(digest)]]);
        };
        const differing = [];
        for (const range of ranges) {
            // What says no-store goes to the server.
            if (await ask(range, "default") !== await ask(range, "no-store")) differing.push(range);
        }
        return differing;
    }"""
    ranges = [None, "bytes=0-99", "bytes=1000-", "bytes=-500", "bytes=5-4", "bytes=0-0", "bytes=90000000-", "lines=1-2"]
    path = track["stems"][0]["audio"]
    ranges = [each for each in ranges if each != "bytes=90000000-"]  # the server's body is the text of an error
    assert page.evaluate(compare, [path, ranges]) == []

    page.evaluate("path => caches.open('songs').then(cache => cache.put(path, new Response('old')))", path)
    page.reload()
    size = "path => caches.match(path).then(answer => answer.blob()).then(blob => blob.size)"
    page.wait_for_function(f"async path => (await ({size})(path)) > 1000", arg=path)
    page.goto("/account")
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.wait_for_function("caches.has('songs').then(has => !has)")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serves a built page as the gateway does; yields its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.add_routes(routes(folder))
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_the_page_can_be_installed_and_a_new_version_announces_itself(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    shutil.copytree(BUILT, folder)
    with serving(folder) as url:
        page.goto(url)
        page.evaluate("navigator.serviceWorker.ready")
        session = page.context.new_cdp_session(page)
        errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
        assert [error for error in errors if error["errorId"] != "in-incognito"] == []
        manifest = json.loads(session.send("Page.getAppManifest")["data"])
        assert {"192x192", "512x512"} <= {icon["sizes"] for icon in manifest["icons"]}
        for icon in manifest["icons"]:
            assert (BUILT / icon["src"].removeprefix("/")).is_file()

        (folder / "sw.js").write_text((folder / "sw.js").read_text() + "// a newer one")
        notice = page.get_by_role("status").filter(has_text="A new version")
        expect(notice).to_have_count(0)
        page.evaluate("navigator.serviceWorker.getRegistration().then(found => found.update())")
        expect(notice).to_be_visible()
        with page.expect_navigation():
            notice.get_by_role("button", name="Reload").click()
        expect(page.get_by_role("heading", name="StemTube")).to_be_visible()
        expect(notice).to_have_count(0)
