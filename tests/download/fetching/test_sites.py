"""Fetches links with yt-dlp in child processes, from a local web site."""

import asyncio
import gzip
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import yt_dlp
from yt_dlp.networking.common import Response
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError

from services.common.compute.engine import Engine
from services.common.errors import Code, StemTubeError
from services.common.javascript import deno_path
from services.download.config import DownloadSettings
from services.download.fetching.fetcher import FetchWork
from services.download.fetching.sites import MEMORY_BYTES, Sites
from tests.download.site import Site

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


class Fetching:
    """Fetches links in a child process, always into the same folder."""

    def __init__(self, settings: DownloadSettings, folder: Path) -> None:
        self._engine = Engine("test-fetch", FetchWork, settings, settings.log)
        self.folder = folder
        self.told: list[tuple[str, float, dict[str, Any]]] = []

    async def __call__(self, url: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            return await self._engine.run({"url": url, "folder": str(self.folder)}, self._tell)

    def _tell(self, stage: str, fraction: float, **detail: Any) -> None:
        self.told.append((stage, fraction, detail))

    async def close(self) -> None:
        await self._engine.close()


@pytest.fixture
async def fetching(settings: DownloadSettings, tmp_path: Path) -> AsyncIterator[Fetching]:
    folder = tmp_path / "fetched"
    folder.mkdir()
    fetching = Fetching(settings, folder)
    yield fetching
    await fetching.close()


def content(path: str | Path) -> bytes:
    return Path(path).read_bytes()


async def refusal(fetching: Fetching, url: str) -> tuple[Code, str]:
    with pytest.raises(StemTubeError) as refused:
        await fetching(url)
    assert not list(fetching.folder.glob("audio.*"))
    return refused.value.code, refused.value.reason


async def test_a_file_is_fetched_unchanged_and_its_speed_is_reported(
    fetching: Fetching, site: Site, song: Path
) -> None:
    site.slow_seconds = 1.0
    found = await fetching(site.put(song))
    assert content(found["path"]) == content(song)
    assert (found["title"], found["source"], found["cover"]) == ("song", "", "")
    assert [fraction for _, fraction, _ in fetching.told] == sorted(fraction for _, fraction, _ in fetching.told)
    assert any(detail["bytes_per_second"] > 1000 for _, _, detail in fetching.told if detail.get("bytes_per_second"))


async def test_redirects_are_followed(fetching: Fetching, site: Site, song: Path) -> None:
    site.redirects["again"] = site.put(song)
    site.redirects["here"] = f"{site.url}/again"
    assert content((await fetching(f"{site.url}/here"))["path"]) == content(song)


@pytest.mark.parametrize("target", ["http://127.0.0.2:{port}/song.flac", "http://[::1]:{port}/"])
async def test_a_redirect_to_a_private_address_is_refused(
    target: str, fetching: Fetching, site: Site, song: Path
) -> None:
    inside = Site()
    await inside.start("127.0.0.2")
    try:
        inside.put(song)
        site.redirects["song.flac"] = target.format(port=inside.url.rpartition(":")[2])
        assert await refusal(fetching, f"{site.url}/song.flac") == (Code.INVALID_ARGUMENT, "BAD_URL")
        assert not inside.asked
    finally:
        await inside.stop()


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/song.flac", "file:///etc/passwd", "data:audio/flac,x"])
async def test_a_redirect_to_another_scheme_is_refused(target: str, fetching: Fetching, site: Site) -> None:
    site.redirects["song.flac"] = target
    assert await refusal(fetching, f"{site.url}/song.flac") == (Code.FAILED_PRECONDITION, "FETCH_FAILED")


async def test_a_private_address_in_a_page_is_refused(fetching: Fetching, site: Site, song: Path) -> None:
    inside = Site()
    await inside.start("127.0.0.2")
    try:
        site.pages["page"] = f'<html><body><audio src="{inside.put(song)}"></audio></body></html>'
        assert await refusal(fetching, f"{site.url}/page") == (Code.INVALID_ARGUMENT, "BAD_URL")
        assert not inside.asked
    finally:
        await inside.stop()


async def test_a_playlist_cannot_read_local_files(fetching: Fetching, site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    site.files["list.m3u8"] = tmp_path / "list.m3u8"
    site.files["list.m3u8"].write_text(f"#EXTM3U\n#EXTINF:5,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    site.headers["Content-Type"] = "application/vnd.apple.mpegurl"
    with pytest.raises(StemTubeError):
        await fetching(f"{site.url}/list.m3u8")
    assert not any(b"secret" in path.read_bytes() for path in fetching.folder.iterdir())


async def test_a_broken_connection_is_resumed(fetching: Fetching, site: Site, song: Path) -> None:
    site.resets = 2  # the first may hit the request for information, which reads little
    found = await fetching(site.put(song))
    assert content(found["path"]) == content(song)
    assert any(ranges.startswith("bytes=") and ranges != "bytes=0-" for _, ranges in site.asked), site.asked


async def test_a_second_attempt_resumes_the_first(
    settings: DownloadSettings, fetching: Fetching, site: Site, song: Path
) -> None:
    site.slow_seconds = 8.0
    url = site.put(song)
    first = asyncio.create_task(fetching(url))
    async with asyncio.timeout(60):
        while not any(fraction > 0.3 for _, fraction, _ in fetching.told):
            await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    site.slow_seconds = 0.0
    again = Fetching(settings, fetching.folder)
    assert content((await again(url))["path"]) == content(song)
    await again.close()
    assert any(ranges.startswith("bytes=") and ranges != "bytes=0-" for _, ranges in site.asked), site.asked


async def test_a_wrong_content_type_is_ignored(fetching: Fetching, site: Site, song: Path) -> None:
    site.headers["Content-Type"] = "application/octet-stream"
    assert content((await fetching(site.put(song)))["path"]) == content(song)


@pytest.mark.parametrize(
    "name", ['x"; rm -rf .flac', "../../evil.flac", "$(id) `id`.flac", "n\u00e4m\u0435\u202egnp.flac"]
)
async def test_a_hostile_file_name_ends_up_in_the_folder(name: str, fetching: Fetching, site: Site, song: Path) -> None:
    site.files["song"] = song
    site.headers |= {"Content-Type": "audio/flac", "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    path = Path((await fetching(f"{site.url}/song"))["path"])
    assert path.parent == fetching.folder
    assert content(path) == content(song)


async def test_a_missing_page_and_a_page_without_a_song_have_reasons(fetching: Fetching, site: Site) -> None:
    site.pages["page"] = "<html><body>Nothing to hear here.</body></html>"
    assert await refusal(fetching, f"{site.url}/missing.mp3") == (Code.NOT_FOUND, "NO_SUCH_PAGE")
    assert await refusal(fetching, f"{site.url}/page") == (Code.FAILED_PRECONDITION, "UNSUPPORTED_SITE")


@pytest.mark.skipif(sys.platform != "linux", reason="sets another process' limit")
async def test_a_page_that_expands_beyond_the_memory_limit_is_refused(
    fetching: Fetching, site: Site, tmp_path: Path
) -> None:
    assert await refusal(fetching, f"{site.url}/missing.mp3") == (Code.NOT_FOUND, "NO_SUCH_PAGE")
    (child,) = (process for process in psutil.Process().children() if "spawn_main" in process.cmdline()[-2])
    assert child.rlimit(psutil.RLIMIT_DATA) == (MEMORY_BYTES, MEMORY_BYTES)
    child.rlimit(psutil.RLIMIT_DATA, (300_000_000, 300_000_000))
    bomb = tmp_path / "page.html"
    bomb.write_bytes(gzip.compress(b"<!DOCTYPE html><html>" + bytes(400_000_000), 1))
    site.put(bomb)
    site.headers |= {"Content-Type": "text/html", "Content-Encoding": "gzip"}
    assert await refusal(fetching, f"{site.url}/page.html") == (Code.RESOURCE_EXHAUSTED, "TOO_LARGE")


async def test_an_unreachable_site_can_be_tried_again(fetching: Fetching, site: Site) -> None:
    await site.stop()
    assert await refusal(fetching, f"{site.url}/song.flac") == (Code.UNAVAILABLE, "SITE_UNAVAILABLE")


async def test_the_picture_of_a_page_is_fetched_with_its_song(
    fetching: Fetching, site: Site, song: Path, tmp_path: Path
) -> None:
    site.files["cover.png"] = tmp_path / "cover.png"
    site.files["cover.png"].write_bytes(PNG)
    site.pages["page"] = (
        '<html><head><meta property="og:title" content="A Song">'
        f'<meta property="og:image" content="{site.url}/cover.png">'
        f'<meta property="og:video" content="{site.put(song)}"></head></html>'
    )
    found = await fetching(f"{site.url}/page")
    assert content(found["cover"]) == PNG
    assert found["title"] == "A Song"


def answer(status: int) -> HTTPError:
    return HTTPError(Response(io.BytesIO(), "https://site.example/", {}, status=status))


FAILURES = [
    (ExtractorError("Private video. Sign in if you've been granted access to this video", expected=True), "PRIVATE"),
    (ExtractorError("Video unavailable. This video has been removed by the uploader", expected=True), "REMOVED"),
    (ExtractorError("Sign in to confirm your age. This video may be inappropriate", expected=True), "AGE_RESTRICTED"),
    (ExtractorError("Sign in to confirm you\u2019re not a bot. Use --cookies", expected=True), "BLOCKED"),
    (ExtractorError("Join this channel to get access to members-only content", expected=True), "MEMBERS_ONLY"),
    (ExtractorError("The uploader has not made this video available in your country", expected=True), "GEO_BLOCKED"),
    (GeoRestrictedError("not from here", countries=["DE"]), "GEO_BLOCKED"),
    (ExtractorError("This live event will begin in 3 hours.", expected=True), "NOT_YET"),
    (ExtractorError("gone", cause=answer(410)), "NO_SUCH_PAGE"),
    (ExtractorError("busy", cause=answer(429)), "SITE_UNAVAILABLE"),
    (ExtractorError("broken", cause=answer(503)), "SITE_UNAVAILABLE"),
    (ExtractorError("no", cause=answer(403)), "FETCH_FAILED"),
    (ExtractorError("cut", cause=TransportError("connection reset")), "SITE_UNAVAILABLE"),
    (ExtractorError("Something nobody has foreseen", expected=True), "FETCH_FAILED"),
]


@pytest.mark.parametrize(("error", "reason"), FAILURES, ids=lambda value: str(value)[:30])
def test_each_refusal_of_a_site_has_its_reason(
    error: ExtractorError, reason: str, settings: DownloadSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.download.fetching.sites.Guard.install", lambda _guard: None)
    monkeypatch.setattr("services.download.fetching.sites.limit_memory", lambda _bytes: None)
    monkeypatch.setitem(sys.modules, "curl_cffi", None)

    def extract(_downloader: Any, _url: str, **_options: Any) -> Any:
        raise DownloadError(f"ERROR: {error}", (type(error), error, None))

    monkeypatch.setattr(yt_dlp.YoutubeDL, "extract_info", extract)
    with pytest.raises(StemTubeError) as refused:
        Sites(settings).look_up("https://site.example/", tmp_path)
    assert refused.value.reason == reason
    assert "yt-dlp" not in refused.value.message


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"entries": []}, "IS_PLAYLIST"),
        ({"is_live": True}, "IS_LIVE"),
        ({"live_status": "is_live"}, "IS_LIVE"),
        ({"duration": 1e6}, "TOO_LONG"),
    ],
)
def test_lists_live_streams_and_long_songs_are_refused(
    found: dict[str, Any], reason: str, settings: DownloadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.download.fetching.sites.Guard.install", lambda _guard: None)
    monkeypatch.setattr("services.download.fetching.sites.limit_memory", lambda _bytes: None)
    with pytest.raises(StemTubeError) as refused:
        Sites(settings).check(found)
    assert refused.value.reason == reason


def test_the_runtime_for_youtubes_challenges_is_there() -> None:
    path = deno_path()
    assert path
    assert Path(path).exists()
