"""Lyrics from a local site with LRCLIB's API (https://lrclib.net/docs)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from services.download.pipeline.found_lyrics import FoundLyrics
from services.download.pipeline.plan import make_plan
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.pipeline.test_section_naming import STEMS

RECORDING = {
    "id": 1,
    "trackName": "Harbour",
    "artistName": "The Tides",
    "duration": 201.0,
    "instrumental": False,
    "plainLyrics": "Boats come in\nand boats go out",
    "syncedLyrics": "[00:12.30] Boats come in\n[00:15.00] and boats go out",
}


class LyricSite:
    """Answers the search `known` with `found`, or every search if `known` is empty."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.known: dict[str, str] = {}
        self.found: Any = [RECORDING]
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        assert request.headers["User-Agent"].startswith("StemTube/")
        is_known = not self.known or dict(request.query) == self.known
        return web.json_response(self.found if is_known else [], status=self.status)


@pytest_asyncio.fixture
async def lyric_site() -> AsyncIterator[tuple[LyricSite, FoundLyrics]]:
    site = LyricSite()
    app = web.Application()
    app.add_routes([web.get("/api/search", site.answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield site, FoundLyrics(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    await runner.cleanup()


Found = tuple[LyricSite, FoundLyrics]


async def test_words_of_a_recording_of_equal_length_are_found(lyric_site: Found) -> None:
    site, lyrics = lyric_site
    other = RECORDING | {"duration": 240, "plainLyrics": "Another recording"}
    nearer = RECORDING | {
        "duration": 199.5,
        "plainLyrics": None,
        "syncedLyrics": "[00:01.00] <00:01.00> Near <00:02.00> by",
    }
    silent = RECORDING | {"duration": 199.5, "plainLyrics": None, "syncedLyrics": None, "instrumental": True}
    site.found = [other, RECORDING, silent]
    assert await lyrics.find("Harbour", "The Tides", 199.6) == "Boats come in\nand boats go out"
    site.found = [other, RECORDING, nearer]
    assert await lyrics.find("Harbour", "The Tides", 199.6) == "Near by"
    assert await lyrics.find("Harbour", "The Tides", 100.0) == ""
    assert site.asked[0] == {"track_name": "Harbour", "artist_name": "The Tides"}


@pytest.mark.parametrize(
    ("title", "artist", "known"),
    [
        ("Harbour (Official Video)", "The Tides", {"track_name": "Harbour", "artist_name": "The Tides"}),
        ("The Tides - Harbour [HD] | Lyrics", "TidesVEVO", {"track_name": "Harbour", "artist_name": "The Tides"}),
        ("Harbour", "", {"q": "Harbour"}),
        ("Harbour (Live)", "Tides", {"q": "Tides Harbour (Live)"}),
        ("[Official Video]", "", {"q": "[Official Video]"}),
    ],
)
async def test_additions_in_titles_of_videos_are_ignored(
    lyric_site: Found, title: str, artist: str, known: dict[str, str]
) -> None:
    site, lyrics = lyric_site
    site.known = known
    assert await lyrics.find(title, artist, 201.0)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (200, []),
        (200, {"error": "what?"}),
        (200, ["words", {"duration": "long"}, {"duration": 201, "plainLyrics": 5}]),
        (200, [RECORDING | {"plainLyrics": "- - -"}, RECORDING | {"plainLyrics": "la " * 10_000}]),
        (500, [RECORDING]),
        (302, [RECORDING]),
    ],
)
async def test_a_malformed_answer_gives_no_words(lyric_site: Found, status: int, found: Any) -> None:
    site, lyrics = lyric_site
    site.status, site.found = status, found
    assert await lyrics.find("Harbour", "The Tides", 201.0) == ""


async def test_an_unreachable_or_unset_site_gives_no_words() -> None:
    assert await FoundLyrics("http://127.0.0.1:9").find("Harbour", "The Tides", 201.0) == ""
    assert await FoundLyrics("").find("Harbour", "The Tides", 201.0) == ""


@pytest.mark.parametrize(("text", "passed_on"), [("", "Boats come in\nand boats go out"), ("my own words", "")])
async def test_the_analysis_gets_the_found_words(
    lyric_site: Found, library: RunningLibrary, tmp_path: Path, text: str, passed_on: str
) -> None:
    site, lyrics = lyric_site
    site.found = [RECORDING | {"duration": 2.0}]
    requests: list[analysis_pb2.CreateAnalysisRequest] = []

    class Analysis:
        async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
            requests.append(request)
            return analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED))

    library.use(Analysis(), lyrics)
    track = await library.upload("anna", with_soundfile(tmp_path / "Harbour.wav", music(2)))
    await library.keep_stems(track.id, STEMS)
    choice = pb.AnalysisChoice(part=analysis_pb2.PART_LYRICS, text=text)
    await library.end_of(await library.start("anna", track.id, make_plan(pb.ProcessingOptions(analyses=[choice]))))
    (part,) = requests[0].parts
    assert (part.text, part.found_text) == (text, passed_on)
    assert bool(site.asked) == (not text)
