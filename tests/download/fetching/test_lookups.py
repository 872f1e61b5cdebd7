"""Searches and look-ups of links: kept answers, time limits, and fairness between users."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import Code, StemTubeError
from services.common.storage.database import Database, migrate
from services.download.config import DownloadSection, DownloadSettings
from services.download.fetching.lookups import SPARE_SECONDS, Lookups
from services.download.fetching.sites import song_of
from services.download.tracks.messages import song_message
from tests.download.site import Site


@pytest.fixture
async def lookups(settings: DownloadSettings) -> AsyncIterator[Lookups]:
    await migrate(settings.database_url, "services.download")
    async with Database(settings.database_url) as database:
        lookups = Lookups(settings, database)
        yield lookups
        await lookups.close()


async def test_the_details_of_a_link_are_asked_for_once(lookups: Lookups, site: Site, song: Path) -> None:
    url = site.put(song)
    answers = await asyncio.gather(*(lookups.look_up("anna", url) for _ in range(3)))
    assert answers[0]["song"]["title"] == "song"
    assert answers[0]["entries"] == []
    assert answers[1:] == answers[:1] * 2
    asked = len(site.asked)
    assert asked
    assert await lookups.look_up("anna", url) == answers[0]
    assert len(site.asked) == asked


async def test_answers_expire(site: Site, song: Path, tmp_path: Path) -> None:
    section = DownloadSection(allowed_hosts=("127.0.0.1",), lookup_days=0)
    settings = DownloadSettings(data_dir=tmp_path / "data", download=section)
    await migrate(settings.database_url, "services.download")
    async with Database(settings.database_url) as database:
        lookups = Lookups(settings, database)
        await lookups.look_up("anna", site.put(song))
        asked = len(site.asked)
        await lookups.look_up("anna", site.put(song))
        assert len(site.asked) == 2 * asked
        await lookups.forget_old()
        await lookups.close()


async def test_a_list_is_looked_up_with_its_songs(lookups: Lookups, site: Site, song: Path) -> None:
    site.files["feed.rss"] = song.with_name("feed.rss")
    items = "".join(f"<item><title>Song {number}</title><link>{site.url}/{number}</link></item>" for number in range(3))
    site.files["feed.rss"].write_text(
        f'<?xml version="1.0"?><rss version="2.0"><channel><title>All songs</title>{items}</channel></rss>'
    )
    site.headers["Content-Type"] = "application/rss+xml"
    answer = await lookups.look_up("anna", f"{site.url}/feed.rss")
    assert answer["song"]["title"] == "All songs"
    assert [entry["title"] for entry in answer["entries"]] == ["Song 0", "Song 1", "Song 2"]
    assert answer["entries"][0]["url"] == f"{site.url}/0"
    assert song_message(answer["entries"][1]).title == "Song 1"


@pytest.mark.long
async def test_a_lookup_of_a_hanging_site_has_a_time_limit(site: Site, song: Path, tmp_path: Path) -> None:
    section = DownloadSection(allowed_hosts=("127.0.0.1",), lookup_seconds=6)
    settings = DownloadSettings(data_dir=tmp_path / "data", download=section)
    await migrate(settings.database_url, "services.download")
    site.hanging = 100
    async with Database(settings.database_url) as database:
        lookups = Lookups(settings, database)
        with pytest.raises(StemTubeError) as refused:
            await lookups.look_up("anna", site.put(song))
        assert (refused.value.code, refused.value.reason) == (Code.UNAVAILABLE, "LOOKUP_TIMEOUT")
        site.hanging = 0
        assert (await lookups.look_up("anna", f"{site.url}/song.flac"))["song"]["title"] == "song"
        await lookups.close()


async def test_hanging_lookups_of_a_user_do_not_delay_others(
    lookups: Lookups, site: Site, song: Path, tmp_path: Path
) -> None:
    """Nine hanging links once occupied all children for a minute each. Now further ones are refused for a while."""
    site.hanging = 100
    url = site.put(song)
    annas = [asyncio.create_task(lookups.look_up("anna", f"{url}?{number}")) for number in range(9)]
    quick = Site()
    await quick.start()
    async with asyncio.timeout(120):
        refused, _ = await asyncio.wait(annas, return_when=asyncio.FIRST_COMPLETED)
        while site.hanging > 98:  # until two of Anna's look-ups wait for the site
            await asyncio.sleep(0.02)
        assert (await lookups.look_up("ben", quick.put(song)))["song"]["title"] == "song"
        assert (await lookups.look_up("eve", quick.put(song)))["song"]["title"] == "song"
    refused = {task for task in annas if task.done()}
    assert len(refused) == 9 - 2 - 4
    for task in refused:
        error = task.exception()
        assert isinstance(error, StemTubeError)
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_WAITING")
        assert int(error.metadata["retry_after_seconds"]) > 0
    for task in annas:
        task.cancel()
    await asyncio.gather(*annas, return_exceptions=True)
    await quick.stop()


async def test_a_lookup_ends_before_the_deadline_of_its_caller(lookups: Lookups, site: Site, song: Path) -> None:
    site.hanging = 100
    async with asyncio.timeout(120):
        with pytest.raises(StemTubeError) as refused:
            await lookups.look_up("anna", site.put(song), SPARE_SECONDS + 0.5)
    assert (refused.value.code, refused.value.reason) == (Code.UNAVAILABLE, "LOOKUP_TIMEOUT")


def test_an_entry_of_a_youtube_search_becomes_a_song() -> None:
    """The shape that yt-dlp 2026.10 gives for `ytsearch` with flat entries."""
    entry = {
        "_type": "url",
        "ie_key": "Youtube",
        "id": "dQw4w9WgXcQ",
        "url": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "title": "Never Gonna Give You Up",
        "duration": 213.0,
        "channel": "Rick Astley",
        "uploader": "Rick Astley",
        "thumbnails": [
            {"url": "https://i.ytimg.com/vi/dQw4w9WgXcQ/hq360.jpg", "height": 202, "width": 360},
            {"url": "https://i.ytimg.com/vi/dQw4w9WgXcQ/hq720.jpg", "height": 404, "width": 720},
        ],
        "live_status": None,
        "view_count": 1_600_000_000,
    }
    song = song_of(entry)
    assert song.url == entry["url"]
    assert (song.title, song.artist, song.duration_seconds) == ("Never Gonna Give You Up", "Rick Astley", 213.0)
    assert song.thumbnail.endswith("hq720.jpg")
    assert (song.source, song.source_id, song.license) == ("Youtube", "dQw4w9WgXcQ", "")


@pytest.mark.network
async def test_youtube_answers_a_search(lookups: Lookups) -> None:
    assert (await lookups.search("anna", "Code Monkey Jonathan Coulton", 3))["entries"]
