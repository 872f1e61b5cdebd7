"""Resumable uploads by a real tus client, through the real gateway to the real library."""

import asyncio
import base64
import io
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.uploader.uploader import Uploader
from yarl import URL

from services.common import audio
from services.common.storage.objects import ObjectStore
from services.download.uploads import uploads
from tests.suite.client import Client, reason
from tests.suite.conftest import add_user
from tests.suite.running import MAX_BYTES, Suite

PATH = "/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}
QUOTA = 60_000_000


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("tus"), settings={"DOWNLOAD__QUOTA_BYTES": QUOTA})
    try:
        suite.start("auth", "download", "gateway")
        asyncio.run(add_user(suite, "ben"))
        yield suite
    finally:
        # A clean stop is slow, and other tests cover it.
        for name in suite.processes:
            suite.kill(name)


@pytest.fixture
def objects(suite: Suite) -> ObjectStore:
    return ObjectStore.from_url(str(suite.data / "objects"))


def song(folder: Path, seed: int, seconds: int = 60) -> Path:
    """A file that does not compress: 44.1 kHz, stereo, 16 bit."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, seconds * 44_100)).astype(np.float32)
    path = folder / "Song of noise.wav"
    audio.encode(noise, 44_100, path, "wav")
    return path


def tus_client(suite: Suite, client: Client) -> TusClient:
    return TusClient(f"{suite.url}/api/v1/uploads", headers=client.headers)


def headers_of(uploader: Uploader) -> Mapping[str, str]:
    """The headers of the last answer."""
    assert uploader.request is not None
    found: Mapping[str, str] = uploader.request.response_headers
    return found


def id_of(uploader: Uploader) -> str:
    assert uploader.url is not None
    return uploader.url.rpartition("/")[2]


async def request(client: Client, method: str, path: str | URL, **arguments: Any) -> tuple[int, Any, Any]:
    """Status and headers of the answer, and its JSON if there is any."""
    headers = client.headers | TUS | arguments.pop("headers", {})
    place = path if isinstance(path, URL) else f"/api/v1{path}"
    async with client._session.request(method, place, headers=headers, **arguments) as answer:
        text = await answer.text()
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        return answer.status, answer.headers, json.loads(text) if text else None


async def created(client: Client, size: int, **headers: str) -> str:
    status, answer, _ = await request(client, "POST", PATH, headers={"Upload-Length": str(size), **headers})
    assert status == 201
    return str(answer["Location"]).removeprefix("/api/v1")


async def append(client: Client, path: str | URL, offset: int, data: Any, **headers: str) -> tuple[int, Any, Any]:
    return await request(client, "PATCH", path, headers=BYTES | {"Upload-Offset": str(offset)} | headers, data=data)


async def offset_of(client: Client, path: str) -> int:
    status, headers, _ = await request(client, "HEAD", path)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    return int(headers["Upload-Offset"])


async def left_of(objects: ObjectStore) -> list[str]:
    return [info.key async for info in objects.list("uploads")]


async def test_a_client_sends_a_file_in_pieces(
    suite: Suite, client: Client, objects: ObjectStore, tmp_path: Path
) -> None:
    path = song(tmp_path, 1)
    options = {"analyses": [{"part": "PART_KEY"}]}
    uploader = tus_client(suite, client).uploader(
        str(path), chunk_size=3_000_000, metadata={"filename": path.name, "options": json.dumps(options)}
    )
    await asyncio.to_thread(uploader.upload)
    found = headers_of(uploader)
    assert int(found["upload-offset"]) == path.stat().st_size
    track = (await client.get(f"/tracks/{found['stemtube-track-id']}"))["track"]
    assert track["title"] == "Song of noise"
    assert track["durationSeconds"] == pytest.approx(60)
    job = (await client.get(f"/jobs/{found['stemtube-job-id']}"))["job"]
    assert (job["trackId"], [part["name"] for part in job["parts"]]) == (track["id"], ["acquire", "key"])
    _status, original, _headers = await client.bytes(f"/tracks/{track['id']}/audio")
    assert original == path.read_bytes()
    # A client that lost the last answer asks again.
    upload = (await client.get(f"/uploads/{id_of(uploader)}"))["upload"]
    assert (upload["trackId"], upload["offset"]) == (track["id"], upload["sizeBytes"])
    assert await left_of(objects) == []


async def test_the_same_file_again_is_the_same_track(suite: Suite, client: Client, tmp_path: Path) -> None:
    path = song(tmp_path, 2, seconds=5)
    tracks = set()
    for _ in range(2):
        uploader = tus_client(suite, client).uploader(str(path), chunk_size=400_000)
        await asyncio.to_thread(uploader.upload)
        tracks.add(headers_of(uploader)["stemtube-track-id"])
    assert len(tracks) == 1


async def test_a_client_that_disconnects_before_a_refusal_does_not_fill_the_log(suite: Suite, client: Client) -> None:
    location = await created(client, 1_000_000)
    head = (
        f"PATCH /api/v1{location} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 500000\r\n"
        f"Authorization: {client.headers['Authorization']}\r\nContent-Length: 500000\r\n"
        "Content-Type: application/offset+octet-stream\r\n\r\n"
    )
    for _ in range(20):
        _reader, writer = await asyncio.open_connection("127.0.0.1", suite.ports["gateway"])
        writer.write(head.encode() + bytes(1000))
        await writer.drain()
        writer.transport.abort()
    async with asyncio.timeout(30):
        while (log := (suite.data / "gateway.log").read_text()).count(f"path=/api/v1{location}") < 20:
            await asyncio.sleep(0.1)
    assert "never retrieved" not in log
    assert "Traceback" not in log


async def test_a_broken_connection_keeps_the_bytes_that_arrived(suite: Suite, client: Client, tmp_path: Path) -> None:
    path = song(tmp_path, 3)
    content = path.read_bytes()
    assert len(content) > uploads.PART_BYTES + 2_000_000
    location = await created(client, len(content))
    for arrived in (1_000_000, uploads.PART_BYTES + 1_500_000):
        begin = await offset_of(client, location)
        head = (
            f"PATCH /api/v1{location} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {begin}\r\n"
            f"Authorization: {client.headers['Authorization']}\r\nContent-Length: {len(content) - begin}\r\n"
            "Content-Type: application/offset+octet-stream\r\n\r\n"
        )
        _reader, writer = await asyncio.open_connection("127.0.0.1", suite.ports["gateway"])
        writer.write(head.encode() + content[begin:arrived])
        await writer.drain()
        writer.close()
        # Bytes in the gateway's buffer are lost with the connection.
        # A whole part is stored before the rest, so the offset is final only when it stays the same.
        async with asyncio.timeout(20):
            before = -1
            while not arrived - 500_000 < (now := await offset_of(client, location)) <= arrived or now != before:
                before = now
                await asyncio.sleep(0.5)
    uploader = tus_client(suite, client).uploader(str(path), url=f"{suite.url}/api/v1{location}")
    await asyncio.to_thread(uploader.upload)
    track_id = headers_of(uploader)["stemtube-track-id"]
    assert (await client.bytes(f"/tracks/{track_id}/audio"))[1] == content


async def test_a_client_resumes_after_the_gateway_was_killed(suite: Suite, client: Client, tmp_path: Path) -> None:
    path = song(tmp_path, 4)
    uploader = tus_client(suite, client).uploader(str(path), chunk_size=1_000_000, retries=60, retry_delay=0.5)
    await asyncio.to_thread(uploader.upload, 4_000_000)
    suite.kill("gateway")
    sending = asyncio.create_task(asyncio.to_thread(uploader.upload))
    await asyncio.to_thread(suite.start, "gateway")
    await sending
    track_id = headers_of(uploader)["stemtube-track-id"]
    assert (await client.bytes(f"/tracks/{track_id}/audio"))[1] == path.read_bytes()


async def test_wrong_offsets(client: Client) -> None:
    location = await created(client, 1000)
    assert (await append(client, location, 0, b"x" * 100))[0] == 204
    for wrong in (0, 99, 101, 1000):
        status, _, answer = await append(client, location, wrong, b"y" * 10)
        assert (status, reason(answer)) == (409, "OFFSET_MISMATCH")
        assert answer["details"][0]["metadata"] == {"offset": "100"}
    status, _, answer = await append(client, location, 100, b"y" * 901)
    assert (status, reason(answer)) == (400, "TOO_MANY_BYTES")
    assert await offset_of(client, location) == 100
    assert (await append(client, location, 100, b""))[1]["Upload-Offset"] == "100"


async def test_one_of_two_senders_of_the_same_bytes_is_refused(client: Client) -> None:
    location = await created(client, 1000)

    async def slowly(byte: bytes) -> AsyncIterator[bytes]:
        yield byte
        await asyncio.sleep(0.3)
        yield byte * 99

    answers = await asyncio.gather(*(append(client, location, 0, slowly(byte)) for byte in (b"a", b"b")))
    assert sorted(status for status, _, _ in answers) == [204, 409]
    assert await offset_of(client, location) == 100


async def test_the_last_piece_of_a_file_that_is_no_song_is_refused(
    suite: Suite, client: Client, objects: ObjectStore
) -> None:
    uploader = tus_client(suite, client).uploader(file_stream=io.BytesIO(b"no song " * 1000), chunk_size=4000)
    with pytest.raises(TusUploadFailed) as refused:
        await asyncio.to_thread(uploader.upload)
    assert refused.value.status_code == 400
    assert reason(json.loads(refused.value.response_content)) == "NOT_AUDIO"
    with pytest.raises(TusCommunicationError):
        await asyncio.to_thread(uploader.get_offset)
    assert [key for key in await left_of(objects) if id_of(uploader) in key] == []


async def test_an_upload_is_terminated(client: Client, objects: ObjectStore) -> None:
    location = await created(client, 1000)
    await append(client, location, 0, b"x" * 10)
    kept = location.removeprefix("/")
    assert [key for key in await left_of(objects) if key.startswith(kept)]
    assert (await request(client, "DELETE", location))[0] == 204
    assert [key for key in await left_of(objects) if key.startswith(kept)] == []
    for method in ("HEAD", "DELETE"):
        assert (await request(client, method, location))[0] == 404
    assert (await append(client, location, 10, b"x"))[0] == 404


async def test_uploads_belong_to_their_owner_alone(client: Client, ben: Client) -> None:
    location = await created(client, 1000)
    for method in ("HEAD", "DELETE"):
        assert (await request(ben, method, location))[0] == 404
    status, _, answer = await append(ben, location, 0, b"x")
    assert (status, reason(answer)) == (404, "NO_SUCH_UPLOAD")
    assert (await ben.call("GET", location))[0] == 404
    assert await offset_of(client, location) == 0


async def test_the_servers_capabilities_are_public(suite: Suite) -> None:
    async with Client(suite.url) as stranger:
        status, headers, _ = await request(stranger, "OPTIONS", PATH)
        assert (status, headers["Tus-Version"], headers["Tus-Max-Size"]) == (204, "1.0.0", str(MAX_BYTES))
        assert set(headers["Tus-Extension"].split(",")) >= {"creation", "termination"}
        assert (await request(stranger, "POST", PATH, headers={"Upload-Length": "5"}))[0] == 401


async def test_versions(client: Client) -> None:
    location = await created(client, 10)
    for version in ({"Tus-Resumable": "0.2.2"}, {"Tus-Resumable": ""}):
        for method, path in (("POST", PATH), ("HEAD", location), ("PATCH", location), ("DELETE", location)):
            status, headers, _ = await request(client, method, path, headers=version)
            assert (status, headers["Tus-Version"]) == (412, "1.0.0")


async def test_invalid_creations_are_refused(client: Client) -> None:
    async def refused(**headers: str) -> tuple[int, str]:
        status, _, answer = await request(client, "POST", PATH, headers=headers)
        return status, reason(answer)

    assert await refused() == (400, "BAD_REQUEST")
    assert await refused(**{"Upload-Length": "-5"}) == (400, "BAD_REQUEST")
    assert await refused(**{"Upload-Defer-Length": "1"}) == (400, "BAD_REQUEST")
    assert await refused(**{"Upload-Length": "0"}) == (400, "EMPTY_FILE")
    assert await refused(**{"Upload-Length": str(MAX_BYTES + 1)}) == (413, "TOO_LARGE")
    metadata = base64.b64encode(b'{"separations": [{"loud": true}]}').decode()
    for text in ("filename %%%", "filename /w==", f"options {metadata}", f"options {base64.b64encode(b'{').decode()}"):
        assert await refused(**{"Upload-Length": "5", "Upload-Metadata": text}) == (400, "BAD_REQUEST")
    assert await refused(**{"Upload-Length": "5", "Upload-Metadata": "filename é"}) == (400, "BAD_REQUEST")
    status, _, answer = await append(client, await created(client, 5), 0, b"x", **{"Content-Type": "audio/wav"})
    assert (status, reason(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("name", ["x", "0" * 33, "%ff", "%00", "..%2f..%2fetc"])
async def test_invalid_upload_ids(client: Client, name: str) -> None:
    for method in ("HEAD", "DELETE"):
        assert (await request(client, method, URL(f"/api/v1/uploads/{name}", encoded=True)))[0] == 404
    status, _, answer = await append(client, URL(f"/api/v1/uploads/{name}", encoded=True), 0, b"x")
    assert (status, reason(answer)) == (404, "NO_SUCH_UPLOAD")


async def test_metadata_is_returned_and_a_creation_may_contain_bytes(client: Client) -> None:
    metadata = f"filename {base64.b64encode('Über ../x/Lied.mp3'.encode()).decode()}, private"
    headers = {"Upload-Length": "1000", "Upload-Metadata": metadata}
    status, answer, _ = await request(client, "POST", PATH, headers=headers | BYTES, data=b"x" * 30)
    assert (status, answer["Upload-Offset"]) == (201, "30")
    assert answer["Upload-Expires"].endswith("GMT")
    location = answer["Location"].removeprefix("/api/v1")
    _, found, _ = await request(client, "HEAD", location)
    assert (found["Upload-Metadata"], found["Upload-Length"]) == (metadata, "1000")
    assert (await client.get(location))["upload"]["filename"] == "Lied.mp3"


async def test_the_method_can_be_overridden(client: Client) -> None:
    location = await created(client, 100)
    headers = BYTES | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert (await request(client, "POST", location, headers=headers, data=b"x" * 10))[0] == 204
    assert await offset_of(client, location) == 10
    assert (await request(client, "POST", location))[0] == 405
    assert (await request(client, "POST", location, headers={"X-HTTP-Method-Override": "DELETE"}))[0] == 204
    assert (await request(client, "HEAD", location))[0] == 404


async def test_unfinished_uploads_count_for_the_quota(ben: Client) -> None:
    locations = [await created(ben, 20_000_000) for _ in range(3)]
    status, _, answer = await request(ben, "POST", PATH, headers={"Upload-Length": "1000000"})
    assert (status, reason(answer)) == (429, "QUOTA_EXCEEDED")
    await request(ben, "DELETE", locations[0])
    await created(ben, 1_000_000)


async def test_an_idle_connection_is_closed_and_its_bytes_are_kept(suite: Suite, client: Client) -> None:
    location = await created(client, 1000)
    opened = socket.create_connection(("127.0.0.1", suite.ports["gateway"]))
    head = (
        f"PATCH /api/v1{location} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        f"Authorization: {client.headers['Authorization']}\r\nContent-Length: 1000\r\n"
        "Content-Type: application/offset+octet-stream\r\n\r\n" + "x" * 250
    )
    opened.sendall(head.encode())
    # The connection still seems to be open, and the client uses another one.
    await asyncio.sleep(0.2)
    assert await offset_of(client, location) == 0
    assert (await append(client, location, 0, b"y" * 300))[0] == 204
    opened.close()
    await asyncio.sleep(0.3)
    assert await offset_of(client, location) == 300
