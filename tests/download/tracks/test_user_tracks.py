"""Users' tracks on both kinds of database."""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import InvalidInputError, NotFoundError
from services.common.storage.database import Database, migrate
from services.download.tracks.listing import read_listing
from services.download.tracks.messages import track_message
from services.download.tracks.repository import AudioFacts, SongFacts
from services.download.tracks.user_tracks import LONG_AGO
from stemtube.download.v1 import track_pb2 as pb
from tests.common.postgres import create_database
from tests.download.song_library import SongLibrary, beats

TITLE, ARTIST = pb.TRACK_ORDER_TITLE, pb.TRACK_ORDER_ARTIST
SONGS: list[tuple[str, str, dict[str, Any]]] = [
    ("Élan", "Nova", {"bpm": 90.0, "key": "C major", "seconds": 200.0}),
    ("echo 100%", "nova", {"bpm": 120.0, "key": "Db minor", "seconds": 100.0}),
    ("Zebra_x", "Álamo", {"bpm": 120.0, "key": "C# minor", "seconds": 300.0}),
    ("apple", "", {}),
]


@pytest.fixture(params=["sqlite", "postgresql"])
async def song_library(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SongLibrary]:
    url = create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    async with Database(url) as database:
        yield SongLibrary(database)


async def fill(song_library: SongLibrary) -> dict[str, str]:
    await song_library.add("ben", "Élan", "Nova")
    return {title: await song_library.add("anna", title, artist, **facts) for title, artist, facts in SONGS}


LISTS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["apple", "Zebra_x", "echo 100%", "Élan"]),
    ({"order": pb.TRACK_ORDER_ADDED}, ["Élan", "echo 100%", "Zebra_x", "apple"]),
    ({"order": TITLE}, ["apple", "echo 100%", "Élan", "Zebra_x"]),
    ({"order": TITLE, "descending": True}, ["Zebra_x", "Élan", "echo 100%", "apple"]),
    ({"order": ARTIST}, ["apple", "Zebra_x", "echo 100%", "Élan"]),
    ({"order": pb.TRACK_ORDER_DURATION, "min_seconds": 61}, ["echo 100%", "Élan", "Zebra_x"]),
    ({"order": TITLE, "query": "NOVA elan"}, ["Élan"]),
    ({"order": TITLE, "query": "ECHO"}, ["echo 100%"]),
    ({"order": TITLE, "query": "%"}, ["echo 100%"]),
    ({"order": TITLE, "query": "_"}, ["Zebra_x"]),
    ({"order": TITLE, "query": "nova zebra"}, []),
    ({"order": TITLE, "min_bpm": 90, "max_bpm": 100}, ["Élan"]),
    ({"order": TITLE, "max_bpm": 200}, ["echo 100%", "Élan", "Zebra_x"]),
    ({"order": TITLE, "key_tonic": "C#", "key_mode": "minor"}, ["echo 100%", "Zebra_x"]),
    ({"order": TITLE, "key_tonic": "C"}, ["Élan"]),
    ({"order": TITLE, "key_mode": "minor"}, ["echo 100%", "Zebra_x"]),
    ({"favourites": True}, []),
]


async def test_lists_are_filtered_and_sorted(song_library: SongLibrary) -> None:
    await fill(song_library)
    assert [await song_library.titles("anna", **asked) for asked, _ in LISTS] == [found for _, found in LISTS]


async def test_pages_join_and_survive_changes_between_them(song_library: SongLibrary) -> None:
    ids = [await song_library.add("anna", f"song {n % 3}", "same", bpm=100.0, seconds=9.0) for n in range(7)]
    for order, descending in itertools.product(pb.TrackOrder.values(), (False, True)):
        asked: dict[str, Any] = {"order": order, "descending": descending}
        whole, _ = await song_library.page("anna", **asked)
        assert sorted(data.track.id for data in whole) == sorted(ids)
        first, token = await song_library.page("anna", size=3, **asked)
        await song_library.user_tracks.remove("anna", first[0].track.id)
        second, token = await song_library.page("anna", token, size=3, **asked)
        third, end = await song_library.page("anna", token, size=3, **asked)
        assert [data.track.id for data in (*first, *second, *third)] == [data.track.id for data in whole]
        assert end == ""
        with pytest.raises(InvalidInputError) as refused:
            await song_library.page("anna", token, **asked, favourites=True)
        assert refused.value.reason == "BAD_PAGE_TOKEN"
        await song_library.user_tracks.restore("anna", first[0].track.id)


@pytest.mark.parametrize(
    "asked",
    [
        {"query": "x" * 201},
        {"order": 99},
        {"min_bpm": float("nan")},
        {"min_bpm": -1},
        {"min_bpm": 100, "max_bpm": 90},
        {"max_seconds": float("inf")},
        {"key_tonic": "H"},
        {"key_mode": "dorian"},
    ],
)
def test_invalid_filters_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_listing(pb.ListTracksRequest(**asked))
    assert refused.value.reason == "BAD_REQUEST"


async def test_names_favourites_and_notes_are_the_users_own(song_library: SongLibrary) -> None:
    track = await song_library.tracks.add_link("anna", "https://a.example/song")
    await song_library.tracks.add_link("ben", "https://a.example/song")
    changes = {"title": "My song", "artist": "Me", "favourite": True, "notes": "capo 2"}
    message = track_message(await song_library.user_tracks.update("anna", track.id, changes), summary=True)
    assert (message.title, message.artist, message.favourite, message.notes) == ("My song", "Me", True, "capo 2")
    assert message.original_title == "https://a.example/song"
    assert await song_library.titles("anna", query="my me", favourites=True) == ["My song"]
    assert await song_library.titles("ben", query="example") == ["https://a.example/song"]
    await song_library.tracks.set_audio(track.id, SongFacts("Found", "Band"), _facts("0" * 32))
    assert await song_library.titles("anna") == ["My song"]
    assert await song_library.titles("ben", query="found band") == ["Found"]
    await song_library.user_tracks.update("anna", track.id, {"title": "Found"})
    data = await song_library.tracks.track(track.id, "anna")
    assert data is not None
    assert data.access is not None
    assert (data.title, data.access.title, data.artist) == ("Found", None, "Me")
    with pytest.raises(NotFoundError):
        await song_library.user_tracks.update("carl", track.id, {"favourite": True})


async def test_an_edit_hides_the_computed_part_until_it_is_reverted(song_library: SongLibrary) -> None:
    track = await song_library.tracks.add_link("anna", "https://a.example/song")
    await song_library.tracks.add_link("ben", "https://a.example/song")
    await song_library.tracks.set_audio(track.id, SongFacts("Song", ""), _facts("0" * 32))
    await song_library.keep_part("anna", track.id, "beats", beats(60.0))
    await song_library.user_tracks.edit("anna", track.id, "beats", beats(120.0))

    async def tempo(user: str, computed: bool = False) -> tuple[float, list[bool]]:
        data = await song_library.tracks.track(track.id, user, computed=computed)
        assert data is not None
        message = track_message(data)
        return message.tempo.bpm, [edit.computed_since for edit in message.edits]

    assert await tempo("anna") == (120.0, [False])
    assert await tempo("anna", computed=True) == (60.0, [False])
    assert await tempo("ben") == (60.0, [])
    assert await song_library.titles("anna", min_bpm=119) == await song_library.titles("ben", max_bpm=61) == ["Song"]
    await song_library.keep_part("anna", track.id, "beats", beats(61.0), own=True)
    assert await tempo("anna") == (120.0, [True])
    listed, _ = await song_library.page("anna")
    assert [edit.computed_since for edit in track_message(listed[0], summary=True).edits] == [True]
    assert await song_library.titles("anna", min_bpm=119) == ["Song"]
    await song_library.user_tracks.revert("anna", track.id, "beats")
    assert await tempo("anna") == (61.0, [])
    assert await song_library.titles("anna", min_bpm=119) == []
    for other in (
        song_library.user_tracks.edit("carl", track.id, "key", {}),
        song_library.user_tracks.revert("carl", track.id, "key"),
    ):
        with pytest.raises(NotFoundError):
            await other


async def test_lists_leave_out_beats_and_the_tempo_curve(song_library: SongLibrary) -> None:
    track = await song_library.tracks.add_link("anna", "https://a.example/song")
    tempo = {"bpm": 98.5, "confidence": 0.5, "curve": [{"time": 1.0, "bpm": 97.0}]}
    content = {**beats(98.5), "tempo": tempo, "firstDownbeat": 1.25}
    await song_library.keep_part("anna", track.id, "beats", content)
    listed, _ = await song_library.page("anna")
    summary = track_message(listed[0], summary=True)
    assert (summary.tempo.bpm, summary.first_downbeat, len(summary.tempo.curve)) == (98.5, 1.25, 0)
    whole = await song_library.tracks.track(track.id, "anna")
    assert whole is not None
    message = track_message(whole)
    assert [point.bpm for point in message.tempo.curve] == [97.0]
    assert (len(message.beats), message.first_downbeat) == (1, 1.25)


async def test_a_removed_track_can_be_restored_within_its_grace_period(song_library: SongLibrary) -> None:
    track_id = await song_library.add("anna", "Song", bpm=60.0)
    await song_library.user_tracks.update("anna", track_id, {"notes": "mine"})
    await song_library.user_tracks.edit("anna", track_id, "beats", beats(120.0))
    playlist = (await song_library.playlists.create("anna", "Set", "", [track_id])).playlist
    await song_library.user_tracks.remove("anna", track_id)
    assert await song_library.titles("anna") == []
    assert await song_library.titles("anna", deleted=True) == ["Song"]
    assert await song_library.tracks.track(track_id, "anna") is None
    assert (await song_library.playlists.get("anna", playlist.id)).track_ids == []
    with pytest.raises(NotFoundError):
        await song_library.user_tracks.remove("anna", track_id)
    assert await song_library.user_tracks.expired() == {}
    assert await song_library.tracks.forget("anna", track_id, song_library.user_tracks.removed_before()) is None
    restored = await song_library.user_tracks.restore("anna", track_id)
    assert (await song_library.user_tracks.restore("anna", track_id)).track.id == track_id
    assert restored.access is not None
    assert restored.access.notes == "mine"
    assert await song_library.titles("anna", min_bpm=119) == ["Song"]
    assert (await song_library.playlists.get("anna", playlist.id)).track_ids == [track_id]


async def test_after_the_grace_period_a_track_is_gone_and_after_its_last_user_its_data(
    song_library: SongLibrary,
) -> None:
    track = await song_library.tracks.add_link("anna", "https://a.example/song")
    await song_library.tracks.add_link("ben", "https://a.example/song")
    await song_library.tracks.set_audio(track.id, SongFacts("Song", ""), _facts("0" * 32))
    song_library.grace = timedelta(0)
    await song_library.user_tracks.remove("anna", track.id)
    with pytest.raises(NotFoundError):
        await song_library.user_tracks.restore("anna", track.id)
    assert await song_library.titles("anna", deleted=True) == []
    assert list(await song_library.user_tracks.expired()) == [("anna", track.id)]
    assert await song_library.tracks.forget("anna", track.id, song_library.user_tracks.removed_before()) == []
    song_library.grace = timedelta(days=7)
    await song_library.user_tracks.remove("ben", track.id, for_good=True)
    keys = await song_library.tracks.forget("ben", track.id, LONG_AGO)
    assert sorted(keys or []) == [f"originals/{'0' * 32}", f"peaks/{'0' * 32}"]
    assert await song_library.tracks.track(track.id) is None


async def test_an_id_with_nul_is_a_clear_error(song_library: SongLibrary) -> None:
    with pytest.raises((NotFoundError, InvalidInputError)):
        await song_library.user_tracks.restore("anna", "a\0b")
    with pytest.raises((NotFoundError, InvalidInputError)):
        await song_library.playlists.get("anna", "a\0b")


async def test_adding_a_removed_track_again_restores_it(song_library: SongLibrary) -> None:
    track = await song_library.tracks.add_link("anna", "https://a.example/song")
    await song_library.user_tracks.update("anna", track.id, {"notes": "mine"})
    await song_library.user_tracks.remove("anna", track.id)
    assert (await song_library.tracks.add_link("anna", "https://a.example/song")).id == track.id
    data = await song_library.tracks.track(track.id, "anna")
    assert data is not None
    assert data.access is not None
    assert data.access.notes == "mine"


def _facts(name: str) -> AudioFacts:
    return AudioFacts(f"originals/{name}", f"peaks/{name}", "", name, "flac", 60.0, 44_100, 2, -12.0)
