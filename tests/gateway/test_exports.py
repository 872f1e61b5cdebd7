"""The route of exports: access, names of files, and refusals."""

import io
import json
import subprocess
import sys
import zipfile
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from gateway.exports.export import Archive
from gateway.exports.registry import EXPORTS
from gateway.exports.track import named_after
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from stemtube.download.v1 import media_pb2, track_pb2
from tests.gateway.conftest import Client, Connect
from tests.gateway.exported import exported, full_track
from tests.gateway.suite import token_of

AUDIO = media_pb2.MEDIA_KIND_AUDIO
PATH = "/api/v1/tracks/t/exports"
STEMS = {"vocals": b"fLaC" + bytes(3_000_000), "drums": b"fLaC" + bytes(range(256)) * 9000}


@pytest.fixture
async def client(client: Client) -> Client:
    """Ann has a track with two stems."""
    track = full_track()
    await give(client, track, "htdemucs", STEMS)
    client.suite.library.tracks["ann"]["t"] = track
    return client


async def give(client: Client, track: track_pb2.Track, model: str, stems: dict[str, bytes]) -> None:
    for name, content in stems.items():
        track.stems.add(name=name, model=model, sample_rate_hz=44_100, gain=1.0)
        key = f"stems/{model}/{name}"
        await open_store(client.settings).put(key, content)
        media = media_pb2.GetMediaResponse(key=key, content_type="audio/flac", filename=name)
        client.suite.library.media["t", model, name, AUDIO, ""] = media


async def get(client: Client, path: str, method: str = "GET") -> tuple[int, bytes, Any]:
    async with client.http.request(method, f"{PATH}/{path}") as response:
        return response.status, await response.read(), response.headers


async def test_a_document(client: Client) -> None:
    status, content, headers = await get(client, "lrc?words=1")
    assert (status, content.decode()) == (200, exported("lrc", words="1"))
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Length"] == str(len(content))
    assert headers["Cache-Control"].startswith("private")
    assert headers["X-Content-Type-Options"] == "nosniff"
    expected = (
        "attachment; filename=\"Zo_ - Morning _ Light.lrc\"; filename*=UTF-8''Zo%C3%AB%20-%20Morning%20_%20Light.lrc"
    )
    assert headers["Content-Disposition"] == expected


@pytest.mark.parametrize("name", [name for name in EXPORTS if name not in ("mixdown", "stem.mp4", "click")])
async def test_every_format_is_answered_and_head_has_the_same_headers(client: Client, name: str) -> None:
    status, content, headers = await get(client, name)
    assert status == 200
    head_status, nothing, head = await get(client, name, "HEAD")
    assert (head_status, nothing) == (200, b"")
    for header in ("Content-Type", "Content-Disposition", "Content-Length"):
        assert headers.get(header) == head.get(header)
    assert content


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("docx", 404, "UNKNOWN_FORMAT"),
        ("LRC", 404, "UNKNOWN_FORMAT"),
        ("lrc?words=yes", 400, "BAD_REQUEST"),
        ("lrc?words=1&words=1", 400, "BAD_REQUEST"),
        ("srt?words=1", 400, "BAD_REQUEST"),
        ("stems?model=other", 404, "NO_STEMS"),
        ("mixdown", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals,tuba", 404, "NO_SUCH_STEM"),
        ("mixdown?stems=vocals,vocals", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals:loud", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals:nan", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals:13", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals:0:2", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals:0:0:0", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals,", 400, "BAD_REQUEST"),
        ("mixdown?stems=vocals&encoding=exe", 400, "BAD_REQUEST"),
        ("stem.mp4", 404, "NO_SUCH_STEM"),
    ],
)
async def test_refusals(client: Client, path: str, status: int, reason: str) -> None:
    assert await client.refused("GET", f"{PATH}/{path}") == (status, reason)


async def test_an_unknown_format_is_refused_with_the_known_ones(client: Client) -> None:
    _, answer = await client.json("GET", f"{PATH}/docx")
    assert all(name in answer["message"] for name in EXPORTS)


async def test_a_missing_part_is_named(client: Client) -> None:
    client.suite.library.tracks["ann"]["t"].ClearField("lyrics")
    status, answer = await client.json("GET", f"{PATH}/srt")
    assert (status, answer["message"]) == (404, "The track has no lyrics.")
    assert answer["details"][0]["reason"] == "NO_LYRICS"


@pytest.mark.parametrize("name", ["lrc", "stems", "mixdown?stems=vocals"])
async def test_another_users_track_is_not_found(client: Client, name: str) -> None:
    headers = {"Authorization": f"Bearer {token_of('bob')}"}
    assert await client.refused("GET", f"{PATH}/{name}", headers=headers) == (404, "NO_SUCH_TRACK")


async def test_without_a_sign_in_nothing_is_exported(client: Client) -> None:
    assert (await client.refused("GET", f"{PATH}/lrc", headers={"Authorization": "Bearer x"}))[0] == 401


async def test_the_stems_as_zip(client: Client) -> None:
    status, content, headers = await get(client, "stems")
    assert (status, headers["Content-Type"]) == (200, "application/zip")
    assert "Content-Length" not in headers
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        folder = "Zoë - Morning _ Light"
        assert archive.namelist() == [f"{folder}/vocals.flac", f"{folder}/drums.flac"]
        assert [archive.read(f"{folder}/{name}.flac") for name in STEMS] == list(STEMS.values())
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


async def test_stems_of_two_models_have_folders_of_their_own(client: Client) -> None:
    await give(client, client.suite.library.tracks["ann"]["t"], "spleeter_2stems", {"vocals": b"fLaC2"})
    _, content, _ = await get(client, "stems")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        folders = [name.split("/", 1)[1] for name in archive.namelist()]
    assert folders == ["htdemucs/vocals.flac", "htdemucs/drums.flac", "spleeter_2stems/vocals.flac"]
    _, content, _ = await get(client, "stems?model=spleeter_2stems")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [b"fLaC2"]
    assert await client.refused("GET", f"{PATH}/mixdown?stems=vocals") == (400, "BAD_REQUEST")


@pytest.mark.parametrize("name", ["stems", "mixdown?stems=drums"])
async def test_a_stem_that_is_missing_in_the_store(client: Client, name: str) -> None:
    store = open_store(client.settings)
    await store.put(MARKER, b"of ann's library")
    await store.delete("stems/htdemucs/drums")
    assert await client.refused("GET", f"{PATH}/{name}") == (404, "NO_SUCH_OBJECT")


async def test_a_stem_that_disappears_while_the_zip_is_sent_breaks_the_connection(client: Client) -> None:
    store = open_store(client.settings)
    await store.put("stems/htdemucs/drums", bytes(30_000_000))
    async with client.http.get(f"{PATH}/stems") as response:
        assert response.status == 200
        await response.content.readexactly(1000)
        await store.delete("stems/htdemucs/drums")
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_an_undecodable_stem_is_an_error_of_the_request(client: Client) -> None:
    """The stem is 3 MB of zeros after FLAC's four letters."""
    assert await client.refused("GET", f"{PATH}/mixdown?stems=vocals") == (400, "CORRUPT")


async def test_a_rendering_that_takes_too_long(connect: Connect, client: Client) -> None:
    hasty = await connect(export_seconds=0.001)
    status, answer = await hasty.json("GET", f"{PATH}/click")
    assert (status, answer["details"][0]["reason"]) == (503, "EXPORT_TIMEOUT")


def test_files_are_named_after_artist_and_title() -> None:
    assert named_after(track_pb2.Track(artist="AC/DC", title='What?\r\n"No"')) == "AC_DC - What_ _No_"
    assert named_after(track_pb2.Track(title="Song")) == "Song"
    assert named_after(track_pb2.Track()) == "track"


def test_names_in_a_zip_are_valid_on_any_system() -> None:
    stems = [track_pb2.TrackStem(model=model, name=name) for model in ("aux.pt", "x.") for name in ("con", "a:b")]
    track = track_pb2.Track(title="..\\..", stems=stems)
    archive = EXPORTS["stems"].make(track, {"model": ""})
    assert isinstance(archive, Archive)
    assert list(archive.stems) == [f"_/{model}/{name}.flac" for model in ("_aux.pt", "x") for name in ("_con", "a_b")]


def test_the_gateway_itself_loads_no_sound_libraries() -> None:
    code = "import gateway.app, sys; print([name for name in ('av', 'numpy', 'soxr', 'scipy') if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {json.dumps(sys.path)}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"
