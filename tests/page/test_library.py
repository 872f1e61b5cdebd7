"""Uploads, the list of songs and playlists in a real browser; no song is processed here."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Request, expect

from services.common import audio
from tests.page.conftest import elsewhere
from tests.page.slow_proxy import SlowProxy
from tests.page.song_view import violations
from tests.page.sound_tap import RATE_HZ
from tests.suite.client import Client, Json
from tests.suite.running import PASSWORD, Suite

QUOTA_BYTES = 20_000_000
SLOW_BYTES_PER_SECOND = 3_000_000


@pytest.fixture(scope="module")
def suite(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite with a library; its jobs wait for services that do not run."""
    settings = {"DOWNLOAD__QUOTA_BYTES": QUOTA_BYTES, "AUTH__REGISTRATION": "invitation"}
    suite = Suite(tmp_path_factory.mktemp("suite"), settings=settings)
    try:
        suite.start("auth", "download", "gateway")
        yield suite
    finally:
        suite.stop()


def noise(path: Path, seed: int, seconds: float = 1.0) -> Path:
    """A file of noise, which the library takes for a new song: about 130 kB a second."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (1, int(seconds * RATE_HZ))).astype(np.float32)
    audio.encode(samples, RATE_HZ, path, "flac")
    return path


@pytest.fixture(scope="module")
def songs(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """Three songs with different keys and beats."""
    folder = tmp_path_factory.mktemp("songs")

    async def uploaded() -> list[Json]:
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            tracks = []
            for seed, (title, tonic, bpm) in enumerate((("Alba", "C", 90), ("Brisa", "G", 120), ("Costa", "Eb", 150))):
                track = (await client.uploaded(noise(folder / f"{title}.flac", seed)))["track"]
                beats = {"tempo": {"bpm": bpm}, "beats": [{"time": 0}, {"time": 60 / bpm}]}
                for part in ({"key": {"tonic": tonic, "mode": "major"}}, {"beats": beats}):
                    status, answer = await client.call("PUT", f"/tracks/{track['id']}/edits", json=part)
                    assert status == 200, answer
                tracks.append(track)
            return tracks

    result: list[Json] = elsewhere(uploaded())
    return result


def card(page: Page, title: str) -> Locator:
    return page.get_by_role("list", name="Songs").get_by_role("listitem").filter(has_text=title)


def titles(page: Page) -> Locator:
    return page.locator(".card h2")


class Requests:
    """The pieces of files that a page sends: the first byte of each, and how many are sent at a time."""

    def __init__(self, page: Page) -> None:
        self.offsets: list[int] = []
        self.most = 0
        until_sent: set[Request] = set()

        def begin(request: Request) -> None:
            if request.method == "PATCH":
                self.offsets.append(int(request.headers["upload-offset"]))
                until_sent.add(request)
                self.most = max(self.most, len(until_sent))

        page.on("request", begin)
        page.on("requestfinished", lambda request: until_sent.discard(request))
        page.on("requestfailed", lambda request: until_sent.discard(request))


@pytest.fixture(scope="module")
def line(suite: Suite) -> Iterator[SlowProxy]:
    """A slow line to the gateway."""
    with SlowProxy(suite.ports["gateway"]).running() as line:
        line.bytes_per_second = SLOW_BYTES_PER_SECOND
        yield line


def until_sent(page: Page, name: str, fraction: float) -> None:
    """Waits until a fraction of a file has been sent."""
    bar = page.get_by_role("progressbar", name=f"Upload of {name}")
    page.wait_for_function("([bar, share]) => bar.value > share * bar.max", arg=[bar.element_handle(), fraction])


def test_an_upload_survives_a_broken_connection_a_pause_and_a_reload(
    page: Page, line: SlowProxy, tmp_path: Path
) -> None:
    requests = Requests(page)
    page.goto(line.url)
    page.get_by_label("Song files").set_input_files(noise(tmp_path / "Dolce.flac", 10, 60))
    until_sent(page, "Dolce.flac", 0.1)
    line.break_off()
    expect(page.get_by_label("Uploads")).to_contain_text("will continue automatically")
    line.broken = False
    until_sent(page, "Dolce.flac", 0.3)
    page.get_by_role("button", name="Pause Dolce.flac").click()
    expect(page.get_by_label("Uploads")).to_contain_text(re.compile(r"paused at \d+ %"))
    page.get_by_role("button", name="Resume Dolce.flac").click()
    until_sent(page, "Dolce.flac", 0.5)
    page.reload()
    expect(card(page, "Dolce")).to_be_visible()
    expect(page.get_by_label("Uploads")).to_have_count(0)
    assert requests.offsets == sorted(requests.offsets)
    assert len(requests.offsets) >= 4
    assert min(requests.offsets[1:]) > 0, "what had arrived was sent again"


def test_a_dropped_folder_is_uploaded_two_files_at_a_time_without_other_files(
    page: Page, line: SlowProxy, tmp_path: Path
) -> None:
    requests = Requests(page)
    page.goto(line.url)
    expect(page.get_by_label("Song files")).to_be_attached()
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    names = ["Eco", "Fado", "Gala", "Hora"]
    for seed, name in enumerate(names, start=20):
        noise(folder / ("deeper" if seed % 2 else "") / f"{name}.flac", seed)
    (folder / "notes.txt").write_text("no song")
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 400, "data": data})
    for name in names:
        expect(card(page, name)).to_be_visible()
    expect(page.get_by_label("Uploads")).to_have_count(0)
    assert requests.most == 2
    assert len(requests.offsets) == len(names)


def test_large_files_and_files_that_are_not_songs_are_refused_clearly(page: Page, tmp_path: Path) -> None:
    page.goto("/")
    (tmp_path / "Long.flac").write_bytes(bytes(QUOTA_BYTES + 1))
    page.get_by_label("Song files").set_input_files(tmp_path / "Long.flac")
    row = page.get_by_label("Uploads").get_by_role("listitem")
    expect(row.get_by_role("alert")).to_have_text(re.compile("quota is used up"))
    page.get_by_role("button", name="Cancel the upload of Long.flac").click()
    (tmp_path / "broken.flac").write_bytes(b"fLaC" + bytes(1000))
    page.get_by_label("Song files").set_input_files(tmp_path / "broken.flac")
    expect(row.get_by_role("alert")).to_have_text(re.compile("."))
    expect(page.get_by_role("button", name="Send broken.flac again")).to_be_visible()
    page.reload()
    expect(page.get_by_role("list", name="Songs")).to_be_attached()
    expect(row).to_have_count(0)


def test_filters_narrow_the_list_and_are_in_the_address(page: Page, songs: list[Json]) -> None:
    page.goto("/")
    page.get_by_label("Key", exact=True).select_option("G")
    expect(titles(page)).to_have_text(["Brisa"])
    page.get_by_label("Key", exact=True).select_option("")
    page.get_by_label("Slowest tempo").fill("100")
    page.get_by_label("Order").select_option("TRACK_ORDER_TITLE")
    expect(titles(page)).to_have_text(["Brisa", "Costa"])
    assert page.url.endswith("/?from=100&by=title")
    page.get_by_label("Fastest tempo").fill("130")
    expect(titles(page)).to_have_text(["Brisa"])
    page.get_by_role("link", name="Brisa").click()
    page.wait_for_url("**/songs/*")
    page.go_back()
    expect(titles(page)).to_have_text(["Brisa"])
    page.reload()
    expect(titles(page)).to_have_text(["Brisa"])
    page.get_by_role("link", name="StemTube").click()
    expect(titles(page).filter(has_text="Alba")).to_be_visible()
    expect(page.get_by_label("Slowest tempo")).to_have_value("")


def test_a_job_shows_its_state_and_is_cancelled_and_retried(page: Page, songs: list[Json]) -> None:
    page.goto("/?find=Costa")
    song = card(page, "Costa")
    expect(song.get_by_role("progressbar", name="separation")).to_be_visible()
    song.get_by_role("button", name="Cancel Costa").click()
    expect(song).to_contain_text("Cancelled")
    song.get_by_role("button", name="Try Costa again").click()
    expect(song.get_by_role("progressbar", name="separation")).to_be_visible()


def test_a_playlist_is_managed_with_keyboard_and_pointer(page: Page, songs: list[Json]) -> None:
    page.goto("/")
    page.get_by_label("Playlist", exact=True).select_option("new")
    page.get_by_label("Name of the new playlist").fill("Concert")
    page.get_by_label("Name of the new playlist").press("Enter")
    expect(page.get_by_text("This playlist is empty")).to_be_visible()
    page.get_by_label("Playlist", exact=True).select_option("")
    for title in ("Alba", "Brisa", "Costa"):
        page.get_by_role("button", name=f"Edit {title}").click()
        page.get_by_label("Add to a playlist").select_option("Concert")
        expect(page.get_by_text(f"“{title}” is in Concert")).to_be_visible()
        page.keyboard.press("Escape")
    page.get_by_label("Playlist", exact=True).select_option("Concert (3)")
    expect(titles(page)).to_have_text(["Alba", "Brisa", "Costa"])

    page.get_by_role("button", name="Alba: down").press("Enter")
    expect(titles(page)).to_have_text(["Brisa", "Alba", "Costa"])
    page.keyboard.press("Enter")  # the focus has moved with the song
    expect(titles(page)).to_have_text(["Brisa", "Costa", "Alba"])
    card(page, "Alba").drag_to(card(page, "Brisa"))
    expect(titles(page)).to_have_text(["Alba", "Brisa", "Costa"])
    page.get_by_role("button", name="Remove Brisa from").click()
    expect(titles(page)).to_have_text(["Alba", "Costa"])
    page.reload()
    expect(titles(page)).to_have_text(["Alba", "Costa"])

    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name of the playlist").fill("Encore")
    page.get_by_label("Name of the playlist").press("Enter")
    expect(page.get_by_role("heading", name="Encore")).to_be_visible()
    page.get_by_role("button", name="Delete playlist").click()
    expect(page.get_by_role("heading", name="Encore")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    page.get_by_label("Playlist", exact=True).select_option("Encore (2)")
    expect(titles(page)).to_have_text(["Alba", "Costa"])


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_uploads_and_playlists_are_accessible(
    page: Page, line: SlowProxy, songs: list[Json], scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(line.url)
    page.get_by_label("Playlist", exact=True).select_option(label="Encore (2)")
    expect(page.get_by_role("heading", name="Encore")).to_be_visible()
    page.get_by_label("Song files").set_input_files(
        {"name": "x.flac", "mimeType": "audio/flac", "buffer": bytes(900_000)}
    )
    expect(page.get_by_label("Uploads")).to_be_visible()
    check_accessible(page)


def check_accessible(page: Page) -> None:
    """Checks WCAG 2.2 AA with axe, and that nothing is wider than the screen."""
    page.wait_for_timeout(300)
    assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
