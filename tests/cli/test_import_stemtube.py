"""The command imports an installation of the old StemTube into real services."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.api import ApiError
from cli.legacy.importing import PRESENT, SKIPPED, TAKEN, Report, import_stemtube
from cli.legacy.installation import OldInstallation
from cli.legacy.services import ImportServices
from services.common.config import AddressSettings
from services.common.rpc.auth import bearer
from services.common.rpc.client import open_channel
from songs.small_songs import music
from stemtube.auth.v1 import session_pb2, session_pb2_grpc
from stemtube.download.v1 import track_pb2 as pb
from stemtube.download.v1 import track_pb2_grpc
from tests.cli.old_installation import RESULTS, SECONDS, STALE, OldFolder, write
from tests.common.audio_files import with_soundfile
from tests.suite.running import PASSWORD, Suite

VIDEO = "dQw4w9WgXcQ"


@pytest.fixture
def old(tmp_path: Path) -> OldFolder:
    return OldFolder(tmp_path / "old")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    # Tests cannot look up names, so the links' host is allowed without a look-up.
    hosts = {"DOWNLOAD__ALLOWED_HOSTS": '["www.youtube.com"]', "DOWNLOAD__QUOTA_BYTES": 1000}
    suite = Suite(tmp_path_factory.mktemp("import"), settings=hosts)
    try:
        suite.start("auth", "download")
        yield suite
    finally:
        # A clean stop is slow, and other tests cover it.
        for name in suite.processes:
            suite.kill(name)


class Library:
    """The libraries of users after the import."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    async def tracks(self, user: str, password: str = "guitar hero") -> dict[str, pb.Track]:
        """A user's tracks by title, with all parts."""
        async with (
            open_channel(f"127.0.0.1:{self._suite.ports['auth']}") as auth,
            open_channel(f"127.0.0.1:{self._suite.ports['download']}") as download,
        ):
            signing_in: Any = session_pb2_grpc.SessionServiceStub(auth)
            answer = await signing_in.Login(session_pb2.LoginRequest(username=user, password=password), timeout=20)
            library: Any = track_pb2_grpc.TrackServiceStub(download)
            metadata = bearer(answer.session.access_token)
            listed = await library.ListTracks(pb.ListTracksRequest(), metadata=metadata, timeout=20)
            found = {}
            for track in listed.tracks:
                asked = pb.GetTrackRequest(track_id=track.id)
                found[track.title] = (await library.GetTrack(asked, metadata=metadata, timeout=20)).track
            return found


@pytest.fixture
def library(suite: Suite) -> Library:
    return Library(suite)


@pytest.fixture
async def services(suite: Suite) -> AsyncIterator[ImportServices]:
    async with ImportServices(addresses(suite), "admin", PASSWORD) as services:
        yield services


def addresses(suite: Suite) -> AddressSettings:
    ports = suite.ports
    return AddressSettings(auth=f"127.0.0.1:{ports['auth']}", download=f"127.0.0.1:{ports['download']}")


async def run(old: OldFolder, services: ImportServices, *, apply: bool = True) -> Report:
    before = old.state()
    report = await import_stemtube(OldInstallation(old.folder), services, lambda _doing: None, apply=apply)
    assert old.state() == before
    return report


def outcomes(report: Report, outcome: str) -> dict[str, int]:
    return {kind: count for (kind, found), count in report.counts.items() if found == outcome and count}


async def test_users_tracks_stems_and_results(old: OldFolder, services: ImportServices, library: Library) -> None:
    old.add_user(1, "anna", email=None, is_admin=1)
    old.add_user(2, "bert", email="bert@example.org")
    stems = {"extracted": 1, "extraction_model": "htdemucs", "stems_paths": old.add_stems(1, "vocals", "drums")}
    old.add_song(1, VIDEO, 1, 2, **RESULTS, **stems)
    old.add_song(2, "upload_abcd", 1, 2)

    everything = {
        "user": 2,
        "track": 2,
        "access": 4,
        "stem": 2,
        **dict.fromkeys(("beats", "key", "chords", "structure", "lyrics"), 1),
    }
    dry = await run(old, services, apply=False)
    assert (outcomes(dry, TAKEN), dry.notes) == (everything, [])
    with pytest.raises(grpc.aio.AioRpcError):
        await library.tracks("anna")

    report = await run(old, services)
    assert (outcomes(report, TAKEN), report.notes) == (everything, [])
    annas, berts = await library.tracks("anna"), await library.tracks("bert")
    assert set(annas) == set(berts) == {"Song 1", "Song 2"}
    song = annas["Song 1"]
    # All users share the track of a link; an upload belongs to its owner.
    assert song.id == berts["Song 1"].id
    assert annas["Song 2"].id != berts["Song 2"].id
    assert song.source_url == f"https://www.youtube.com/watch?v={VIDEO}"
    assert song.duration_seconds == pytest.approx(SECONDS, abs=0.1)
    assert [(stem.model, stem.name, stem.made_by.backend) for stem in song.stems] == [
        ("htdemucs", "vocals", "stemtube-import"),
        ("htdemucs", "drums", "stemtube-import"),
    ]
    assert all(stem.duration_seconds == pytest.approx(song.duration_seconds, abs=0.01) for stem in song.stems)
    assert not any(stem.silent for stem in song.stems)
    assert song.tempo.bpm == 120
    assert [beat.time for beat in song.beats][:3] == [0.25, 0.75, 1.25]
    assert (song.key.tonic, song.key.mode, song.key.confidence) == ("F#", "minor", 0.8)
    assert [chord.label for chord in song.chords] == ["N", "F#:min7", "D:maj/3"]
    assert [(section.label, round(section.start)) for section in song.sections] == [("verse", 0), ("x", 6)]
    assert (song.lyrics.language, song.lyrics.lines[0].text) == ("en", "Hello there")
    assert song.lyrics.lines[0].words[0].text == "Hello"
    made_by = {song.key.made_by.backend, song.lyrics.made_by.backend, *(one.backend for one in song.made_by.values())}
    assert made_by == {"stemtube-import"}

    again = await run(old, services)
    assert (outcomes(again, TAKEN), outcomes(again, PRESENT)) == ({}, everything)
    assert {title: track.id for title, track in (await library.tracks("anna")).items()} == {
        title: track.id for title, track in annas.items()
    }


async def test_broken_entries_are_reported_and_the_rest_is_imported(
    old: OldFolder, services: ImportServices, library: Library
) -> None:
    old.add_user(1, "carl")
    old.add_user(2, "CARL")
    old.add_user(3, "dora", password_hash="md5$what")
    stems = json.loads(old.add_stems(1, "vocals", "other"))
    (old.downloads / "song 1" / "other.mp3").write_bytes(b"no music " * 100)
    stems |= {"bass": f"{STALE}/song 1/bass.mp3", "drums": f"{STALE}/../../etc/passwd"}
    row = {
        "chords_data": "[{",
        "lyrics_data": '"la la"',
        "structure_data": "[]",
        "detected_key": "H moll",
        "beat_offset": 99,
    }
    old.add_song(1, "upload_1", 1, 2, stems_paths=json.dumps(stems), detected_bpm=100, **row)
    old.add_song(2, "upload_2", 1).unlink()
    old.add_song(3, "upload_3", 1).write_bytes(b"no music " * 100)
    old.add_song(4, "upload_4")
    old.add_song(5, "upload_5", 2)
    old.add_song(6, "upload_6", 1, file_path=None)
    old.insert("user_downloads", user_id=1, global_download_id=77, video_id="gone")
    report = await run(old, services)
    assert outcomes(report, TAKEN) == {"user": 2, "track": 1, "access": 1, "stem": 1}
    assert outcomes(report, SKIPPED) == {
        "user": 1,
        "track": 5,
        "access": 3,
        "stem": 3,
        "beats": 1,
        "key": 1,
        "chords": 1,
        "lyrics": 1,
    }
    for told in (
        "user 'CARL': another user",
        "user 'dora': the password",
        "track 'Song 1': user 'CARL', who has it",
        "track 'Song 2': its file is not there",
        "track 'Song 3': ",
        "track 'Song 4': nobody has it",
        "track 'Song 6': its file is not there (none is named)",
        "stem other: ",
        "stem bass: its file is not there",
        "stem drums: its file is not there",
        "chords: it is not JSON",
        "lyrics: it is not a list",
        "key: 'H moll' is no key",
        "beats: the first beat lies outside the song",
        "had a track gone",
    ):
        assert any(told in note for note in report.notes), told
    (song,) = (await library.tracks("carl")).values()
    assert [stem.name for stem in song.stems] == ["vocals"]
    # A corrected entry is imported the next time.
    write(old.downloads / "song 1" / "bass.mp3", 5)
    assert outcomes(await run(old, services), TAKEN) == {"stem": 1}


async def test_a_stem_of_another_song_is_refused(old: OldFolder, services: ImportServices, library: Library) -> None:
    old.add_user(1, "emil")
    old.add_song(1, "upload_7", 1, stems_paths=json.dumps({"vocals": f"{STALE}/v.wav"}))
    with_soundfile(old.downloads / "v.wav", music(3))
    report = await run(old, services)
    assert outcomes(report, SKIPPED) == {"stem": 1}
    assert "the stem takes 3.0 s" in report.notes[0]


async def test_existing_data_of_a_user_is_kept(old: OldFolder, services: ImportServices, library: Library) -> None:
    old.add_user(1, "fred")
    old.add_song(1, "upload_8", 1, detected_key="C major")
    await run(old, services)
    with sqlite3.connect(old.database) as connection:
        connection.execute("UPDATE global_downloads SET detected_key = 'D minor', detected_bpm = 90, title = 'New'")
    connection.close()
    assert outcomes(await run(old, services), TAKEN) == {"beats": 1}
    (song,) = (await library.tracks("fred")).values()
    assert (song.title, song.key.tonic, song.tempo.bpm) == ("Song 1", "C", 90)


async def test_only_admins_and_only_with_a_password(old: OldFolder, suite: Suite, services: ImportServices) -> None:
    old.add_user(1, "gina")
    await run(old, services)
    async with ImportServices(addresses(suite), "gina", "guitar hero") as ginas:
        with pytest.raises(ApiError, match="administrators"):
            await run(old, ginas)
    async with ImportServices(addresses(suite), "gina", "wrong") as strangers:
        with pytest.raises(ApiError, match="password"):
            await run(old, strangers)


async def test_unreachable_services(old: OldFolder) -> None:
    nowhere = AddressSettings(auth="127.0.0.1:1", download="127.0.0.1:1")
    async with ImportServices(nowhere, "admin", PASSWORD) as services:
        with pytest.raises(ApiError, match="no StemTube answers"):
            await run(old, services)


def test_a_folder_without_an_old_installation(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="there is no folder"):
        OldInstallation(tmp_path / "nowhere")
    (tmp_path / "other.db").write_bytes(b"no database")
    with sqlite3.connect(tmp_path / "another.db") as connection:
        connection.execute("CREATE TABLE users (id)")
    connection.close()
    with pytest.raises(ApiError, match="no database"):
        OldInstallation(tmp_path)


def test_rows_in_the_write_ahead_log_are_read(old: OldFolder) -> None:
    writer = sqlite3.connect(old.database)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO users (id, username, password_hash) VALUES (1, 'anna', 'x')")
    writer.commit()
    before = old.state()
    assert [user.username for user in OldInstallation(old.folder).users] == ["anna"]
    assert old.state() == before
    writer.close()


def test_columns_that_older_versions_lack(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.sqlite") as connection:
        connection.executescript(
            "CREATE TABLE users (id INTEGER, username TEXT, password_hash TEXT);"
            "CREATE TABLE global_downloads (id INTEGER, video_id TEXT, title TEXT, file_path TEXT);"
            "CREATE TABLE user_downloads (user_id INTEGER, video_id TEXT);"
            "INSERT INTO users VALUES (1, 'anna', 'x');"
            "INSERT INTO global_downloads VALUES (1, 'dQw4w9WgXcQ', 'Song', 'x');"
            "INSERT INTO user_downloads VALUES (1, 'dQw4w9WgXcQ');"
        )
    connection.close()
    old = OldInstallation(tmp_path)
    assert (old.users[0].admin, old.users[0].create_time) == (False, None)
    assert [(track.user_ids, track.is_upload) for track in old.tracks] == [([1], False)]


def test_the_command(old: OldFolder, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    old.add_user(1, "hans")
    old.add_song(1, "upload_9", 1)
    for name, address in addresses(suite).model_dump().items():
        monkeypatch.setenv(f"STEMTUBE_ADDRESS__{name.upper()}", address)
    command = ["admin", "import-stemtube", str(old.folder), "--password", PASSWORD]
    dry, applied = (CliRunner().invoke(app, [*command, *more]) for more in ([], ["--apply"]))
    assert (dry.exit_code, applied.exit_code) == (0, 0), dry.output + applied.output
    assert "1 to take, 0 here already, 0 skipped" in dry.output
    assert "Nothing was changed" in dry.output
    assert "1 taken, 0 here already, 0 skipped" in applied.output
    assert asyncio.run(Library(suite).tracks("hans")).keys() == {"Song 1"}
