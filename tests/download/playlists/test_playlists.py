"""Playlists: their order, their owner and their limits."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import AbortedError, InvalidInputError, LimitExceededError, NotFoundError, StemTubeError
from services.common.storage.database import Database, migrate
from services.download.playlists import playlists as playlists_module
from tests.common.postgres import create_database
from tests.download.song_library import SongLibrary


@pytest.fixture(params=["sqlite", "postgresql"])
async def song_library(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SongLibrary]:
    url = create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    async with Database(url) as database:
        yield SongLibrary(database)


async def test_a_setlist_is_made_reordered_extended_and_listed(song_library: SongLibrary) -> None:
    a, b, c = [await song_library.add("anna", title) for title in "abc"]
    made = await song_library.playlists.create("anna", "Friday", "bring the capo", [c, a])
    set_id = made.playlist.id
    assert await song_library.titles("anna", playlist_id=set_id) == ["c", "a"]
    added = await song_library.playlists.add("anna", set_id, [a, b])
    assert added.track_ids == [c, a, b]
    first, token = await song_library.page("anna", size=2, playlist_id=set_id)
    second, _ = await song_library.page("anna", token, size=2, playlist_id=set_id)
    assert [data.title for data in (*first, *second)] == ["c", "a", "b"]
    changed = await song_library.playlists.update("anna", set_id, track_ids=[b, c], name="Saturday")
    assert (changed.track_ids, changed.playlist.name, changed.playlist.notes) == ([b, c], "Saturday", "bring the capo")
    assert changed.playlist.revision > added.playlist.revision > made.playlist.revision
    with pytest.raises(AbortedError) as refused:
        await song_library.playlists.update("anna", set_id, name="Sunday", revision=added.playlist.revision)
    assert refused.value.reason == "REVISION_CHANGED"
    other = await song_library.playlists.create("anna", "Empty", "", [])
    pages = [await song_library.playlists.page("anna", None, 1)]
    last = pages[0][-1].playlist
    pages.append(await song_library.playlists.page("anna", (last.create_time, last.id), 5))
    assert [[(data.playlist.id, data.track_count) for data in page] for page in pages] == [
        [(other.playlist.id, 0)],
        [(set_id, 2)],
    ]
    await song_library.playlists.remove("anna", set_id)
    assert await song_library.titles("anna") == ["c", "b", "a"]


async def test_playlists_and_tracks_of_others_are_not_found(song_library: SongLibrary) -> None:
    mine, his = await song_library.add("anna", "a"), await song_library.add("ben", "b")
    set_id = (await song_library.playlists.create("anna", "Set", "", [mine])).playlist.id
    refusals: list[tuple[StemTubeError, str]] = []
    for call, reason in (
        (song_library.playlists.get("ben", set_id), "NO_SUCH_PLAYLIST"),
        (song_library.playlists.update("ben", set_id, name="x"), "NO_SUCH_PLAYLIST"),
        (song_library.playlists.add("ben", set_id, [his]), "NO_SUCH_PLAYLIST"),
        (song_library.playlists.remove("ben", set_id), "NO_SUCH_PLAYLIST"),
        (song_library.playlists.add("anna", set_id, [his]), "NO_SUCH_TRACK"),
        (song_library.playlists.update("anna", set_id, track_ids=[mine, his]), "NO_SUCH_TRACK"),
        (song_library.playlists.create("ben", "Set", "", [mine]), "NO_SUCH_TRACK"),
    ):
        with pytest.raises(NotFoundError) as refused:
            await call
        refusals.append((refused.value, reason))
    assert [error.reason for error, _ in refusals] == [reason for _, reason in refusals]
    assert await song_library.titles("anna", playlist_id=set_id) == ["a"]
    assert await song_library.playlists.page("ben", None, 5) == []


async def test_playlists_have_limits(song_library: SongLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await song_library.add("anna", "a"), await song_library.add("anna", "b")
    set_id = (await song_library.playlists.create("anna", "Set", "", [a])).playlist.id
    with pytest.raises(InvalidInputError):
        await song_library.playlists.add("anna", set_id, [b, b])
    monkeypatch.setattr(playlists_module, "MAX_PLAYLIST_TRACKS", 1)
    for call in (
        song_library.playlists.add("anna", set_id, [b]),
        song_library.playlists.update("anna", set_id, track_ids=[a, b]),
    ):
        with pytest.raises(LimitExceededError) as full:
            await call
        assert full.value.reason == "TOO_MANY_TRACKS"
    monkeypatch.setattr(playlists_module, "MAX_PLAYLISTS", 1)
    with pytest.raises(LimitExceededError) as too_many:
        await song_library.playlists.create("anna", "Set", "", [])
    assert too_many.value.reason == "TOO_MANY_PLAYLISTS"


async def test_simultaneously_created_playlists_do_not_exceed_the_limit(
    song_library: SongLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playlists_module, "MAX_PLAYLISTS", 3)
    calls = [song_library.playlists.create("anna", f"{number}", "", []) for number in range(12)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [error for error in outcomes if isinstance(error, LimitExceededError)]
    assert [error.reason for error in refused] == ["TOO_MANY_PLAYLISTS"] * 9
    assert len(await song_library.playlists.page("anna", None, 20)) == 3
