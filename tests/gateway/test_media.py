"""Audio and peaks from the object store: ranges, validators, names and access."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.media.media import disposition
from services.common.errors import LimitExceededError
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from stemtube.download.v1 import media_pb2, track_pb2
from stemtube.separation.v1 import separation_pb2
from tests.gateway.conftest import Client, Connect
from tests.gateway.suite import token_of

AUDIO, PEAKS = media_pb2.MEDIA_KIND_AUDIO, media_pb2.MEDIA_KIND_PEAKS
CONTENT = bytes(range(256)) * 4
SIZE = len(CONTENT)
TRACK = "/api/v1/tracks/t"


@pytest.fixture
async def client(client: Client) -> Client:
    """Ann has a track with one stem, in two formats."""
    library, store = client.suite.library, open_store(client.settings)
    library.tracks["ann"]["t"] = track_pb2.Track(id="t")
    objects = {
        ("", "", AUDIO, ""): ("tracks/t/original", CONTENT, "audio/mpeg", 'Größe "9".mp3'),
        ("", "", PEAKS, ""): ("tracks/t/peaks", b"[0,1]", "application/octet-stream", "song.peaks"),
        ("htdemucs", "vocals", AUDIO, ""): ("stems/vocals.flac", CONTENT[::-1], "audio/flac", "vocals.flac"),
        ("htdemucs", "vocals", AUDIO, "wav"): ("stems/vocals.wav", CONTENT * 2, "audio/wav", "vocals.wav"),
        ("htdemucs", "vocals", PEAKS, ""): ("stems/peaks", b"[1,0]", "application/octet-stream", "vocals.peaks"),
        ("htdemucs", "empty", AUDIO, ""): ("stems/empty", b"", "audio/flac", "empty.flac"),
        ("htdemucs", "page", AUDIO, ""): ("stems/page", b"<script>", "text/html", "x.html"),
        ("htdemucs", "large", AUDIO, ""): ("stems/large", b"x" * 20_000_000, "audio/wav", "large.wav"),
    }
    await store.put(MARKER, b"of ann's library")
    for (model, stem, kind, file_format), (key, content, content_type, name) in objects.items():
        await store.put(key, content)
        library.media["t", model, stem, kind, file_format] = media_pb2.GetMediaResponse(
            key=key, content_type=content_type, filename=name
        )
    return client


async def get(client: Client, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.http.request(method, path, headers=names) as response:
        return response.status, await response.read(), response.headers


async def test_the_original_a_stem_another_format_and_peaks(client: Client) -> None:
    status, content, headers = await get(client, f"{TRACK}/audio")
    assert (status, content, headers["Content-Type"]) == (200, CONTENT, "audio/mpeg")
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Cache-Control"].startswith("private")
    assert headers["Content-Length"] == str(SIZE)
    assert (await get(client, f"{TRACK}/stems/htdemucs/vocals"))[1] == CONTENT[::-1]
    assert (await get(client, f"{TRACK}/stems/htdemucs/vocals?format=wav"))[1] == CONTENT * 2
    assert (await get(client, f"{TRACK}/peaks"))[1] == b"[0,1]"
    assert (await get(client, f"{TRACK}/stems/htdemucs/vocals/peaks"))[1] == b"[1,0]"
    assert (await get(client, f"{TRACK}/stems/htdemucs/empty"))[:2] == (200, b"")


@pytest.mark.parametrize("control", [*map(chr, range(0x20)), "\x7f", "\x85", "\u2028", "é"])
async def test_headers_contain_no_control_characters(client: Client, control: str) -> None:
    told = f"audio/x{control}Injected: yes"
    media = client.suite.library.media["t", "", "", AUDIO, ""]
    media.content_type = media.filename = told
    status, content, headers = await get(client, f"{TRACK}/audio?download=1")
    assert (status, content) == (200, CONTENT)
    assert "Injected" not in headers
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    client.suite.library.error = LimitExceededError("Wait.", "TOO_MANY_REQUESTS", retry_after_seconds=told)
    status, _content, headers = await get(client, TRACK)
    assert status == 429
    assert headers["Retry-After"] == told.replace(control, "?")


RANGES = [
    ("bytes=0-99", CONTENT[:100], "bytes 0-99/1024"),
    ("bytes=100-100", CONTENT[100:101], "bytes 100-100/1024"),
    ("bytes=1000-", CONTENT[1000:], "bytes 1000-1023/1024"),
    ("bytes=1000-9999", CONTENT[1000:], "bytes 1000-1023/1024"),
    ("bytes=-24", CONTENT[1000:], "bytes 1000-1023/1024"),
    ("bytes=-9999", CONTENT, "bytes 0-1023/1024"),
    ("Bytes=0-", CONTENT, "bytes 0-1023/1024"),
]


@pytest.mark.parametrize(("wanted", "content", "told"), RANGES, ids=[case[0] for case in RANGES])
async def test_a_range(client: Client, wanted: str, content: bytes, told: str) -> None:
    status, body, headers = await get(client, f"{TRACK}/audio", Range=wanted)
    assert (status, body, headers["Content-Range"]) == (206, content, told)
    assert headers["Content-Length"] == str(len(content))


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=5-1", "seconds=0-1", "bytes=", "bytes=a-b", "bytes=--1"])
async def test_ranges_that_are_ignored(client: Client, wanted: str) -> None:
    status, body, headers = await get(client, f"{TRACK}/audio", Range=wanted)
    assert (status, body) == (200, CONTENT)
    assert "Content-Range" not in headers


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("audio", "bytes=1024-"),
        ("audio", "bytes=9999-10000"),
        ("audio", "bytes=-0"),
        ("stems/htdemucs/empty", "bytes=0-"),
    ],
)
async def test_ranges_beyond_the_end(client: Client, path: str, wanted: str) -> None:
    async with client.http.get(f"{TRACK}/{path}", headers={"Range": wanted}) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{0 if 'empty' in path else SIZE}"
        assert (await response.json())["details"][0]["reason"] == "BAD_RANGE"


async def test_head_describes_the_whole_file_without_a_body(client: Client) -> None:
    status, body, headers = await get(client, f"{TRACK}/audio", "HEAD", Range="bytes=0-1")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(SIZE))
    assert headers["ETag"].startswith('"')


async def test_validators(client: Client) -> None:
    path = f"{TRACK}/audio"
    _, _, first = await get(client, path)
    etag, modified = first["ETag"], first["Last-Modified"]
    earlier = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)

    for condition in ({"If_None_Match": etag}, {"If_None_Match": f'"x", W/{etag}'}, {"If_None_Match": "*"}):
        status, body, headers = await get(client, path, **condition)
        assert (status, body, headers["ETag"]) == (304, b"", etag)
    assert (await get(client, path, If_Modified_Since=modified))[0] == 304
    assert (await get(client, path, If_Modified_Since=earlier))[0] == 200
    assert (await get(client, path, If_None_Match='"x"', If_Modified_Since=modified))[0] == 200

    assert (await get(client, path, If_Match=etag))[0] == 200
    assert (await get(client, path, If_Match='"x"'))[0] == 412
    assert (await get(client, path, If_Unmodified_Since=earlier))[0] == 412

    for version, status in ((etag, 206), ('"x"', 200), (f"W/{etag}", 200), (modified, 206), (earlier, 200), ("?", 200)):
        assert (await get(client, path, Range="bytes=0-9", If_Range=version))[0] == status, version


async def test_the_etag_changes_with_the_object_and_reveals_nothing(client: Client) -> None:
    store = open_store(client.settings)
    _, _, before = await get(client, f"{TRACK}/audio")
    assert (await store.head("tracks/t/original")).etag.strip('"') not in before["ETag"]
    await asyncio.sleep(0.01)
    await store.put("tracks/t/original", CONTENT[::-1])
    status, body, after = await get(client, f"{TRACK}/audio", If_None_Match=before["ETag"])
    assert (status, body) == (200, CONTENT[::-1])
    assert after["ETag"] != before["ETag"]


async def test_names_of_downloads(client: Client) -> None:
    _, _, headers = await get(client, f"{TRACK}/audio?download=1")
    expected = "attachment; filename=\"Gr__e _9_.mp3\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%229%22.mp3"
    assert headers["Content-Disposition"] == expected
    _, _, headers = await get(client, f"{TRACK}/audio")
    assert headers["Content-Disposition"].startswith("inline;")


def test_a_name_cannot_break_out_of_its_header() -> None:
    shown = disposition('a"\r\nSet-Cookie: x=y\ud800', attachment=True)
    assert shown == "attachment; filename=\"a___Set-Cookie: x=y_\"; filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20x%3Dy%3F"
    assert disposition("", attachment=False) == "inline"


async def test_browsers_do_not_render_media_as_a_page(client: Client) -> None:
    _, _, headers = await get(client, f"{TRACK}/stems/htdemucs/page")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/v1/tracks/other/audio", 404, "NO_SUCH_TRACK"),
        (f"{TRACK}/stems/htdemucs/drums", 404, "NO_SUCH_STEM"),
        (f"{TRACK}/audio?format=exe", 400, "UNKNOWN_FORMAT"),
        (f"{TRACK}/audio?colour=red", 400, "BAD_REQUEST"),
        (f"{TRACK}/audio?download=maybe", 400, "BAD_REQUEST"),
        (f"{TRACK}/peaks?format=wav", 400, "BAD_REQUEST"),
    ],
)
async def test_refusals(client: Client, path: str, status: int, reason: str) -> None:
    assert await client.refused("GET", path) == (status, reason)


async def test_another_users_track_is_not_found(client: Client) -> None:
    headers = {"Authorization": f"Bearer {token_of('bob')}"}
    assert await client.refused("GET", f"{TRACK}/audio", headers=headers) == (404, "NO_SUCH_TRACK")


async def test_an_audio_element_is_identified_by_its_cookie(client: Client, connect: Connect) -> None:
    browser = await connect(user=None)
    headers = {"Cookie": f"stemtube_access={token_of('ann')}", "Range": "bytes=0-"}
    async with browser.http.get(f"{TRACK}/audio", headers=headers) as response:
        assert (response.status, await response.read()) == (206, CONTENT)


async def test_a_missing_object(client: Client) -> None:
    await open_store(client.settings).delete("tracks/t/original")
    assert await client.refused("GET", f"{TRACK}/audio") == (404, "NO_SUCH_OBJECT")


async def test_an_unavailable_store_is_not_a_missing_object(client: Client) -> None:
    """Players and caches would keep a 404."""
    store = open_store(client.settings)
    for key in ("tracks/t/original", MARKER):
        await store.delete(key)
    assert await client.refused("GET", f"{TRACK}/audio") == (503, "STORE_AWAY")
    assert await client.json("GET", "/readyz") == (503, {"status": "not ready"})
    await store.put(MARKER, b"1")
    assert await client.json("GET", "/readyz") == (200, {"status": "ready"})


async def test_objects_are_not_missing_while_the_store_is_away(client: Client, tmp_path: Path) -> None:
    client.suite.library.live = separation_pb2.LiveStems(key_prefix="live/j", stems=["vocals"], count=1)
    store = tmp_path / "data" / "objects"
    store.rename(tmp_path / "away")
    store.mkdir()  # the mount point
    for path in (
        f"{TRACK}/audio",
        f"{TRACK}/peaks",
        f"{TRACK}/stems/htdemucs/vocals",
        f"{TRACK}/stems/htdemucs/vocals?format=wav",
        "/api/v1/jobs/j/live/htdemucs/vocals/0.flac",
    ):
        assert await client.refused("GET", path) == (503, "STORE_AWAY")
    assert "Retry-After" in (await get(client, f"{TRACK}/audio"))[2]
    store.rmdir()
    (tmp_path / "away").rename(store)
    assert (await get(client, f"{TRACK}/audio"))[:2] == (200, CONTENT)


async def test_an_object_that_disappears_while_it_is_sent_breaks_the_connection(client: Client, tmp_path: Path) -> None:
    async with client.http.get(f"{TRACK}/stems/htdemucs/large") as response:
        assert response.status == 200
        await response.content.readexactly(1000)
        await open_store(client.settings).delete("stems/large")
        with pytest.raises(Exception, match=r"payload|reset|disconnected"):
            await response.read()


async def test_a_client_that_disconnects_midway_is_not_an_error(client: Client) -> None:
    async with client.http.get(f"{TRACK}/stems/htdemucs/large") as response:
        await response.content.readexactly(1000)
        response.close()
    assert (await get(client, f"{TRACK}/audio"))[0] == 200
