"""Uploads stream through the gateway."""

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.app import LAST_ANSWERS_SECONDS
from gateway.uploads.form import display_name
from tests.gateway.conftest import Client, Connect
from tests.gateway.suite import token_of, until

PATH = "/api/v1/tracks/upload"
MIB = 1024 * 1024
WAV = {"Content-Type": "audio/wav"}


def form(*fields: tuple[str, Any]) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields:
        if name == "file":
            data.add_field(name, value, filename="song.wav", content_type="audio/wav")
        else:
            data.add_field(name, value, filename=None if isinstance(value, str) else name)
    return data


async def pieces(count: int, size: int = MIB) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


async def test_a_form_with_options(client: Client) -> None:
    options = {"separations": [{"model": "htdemucs"}], "analyses": [{"part": "PART_BEATS"}]}
    data = form(("options", json.dumps(options)), ("requestId", "id-1"), ("file", b"RIFF" * 1000))
    status, content = await client.json("POST", PATH, data=data)
    assert status == 200
    assert content["track"]["title"] == "song.wav"
    assert content["job"]["trackId"] == content["track"]["id"]
    (upload,) = client.suite.library.uploads
    assert (upload.size, upload.ended) == (4000, "complete")
    assert upload.header.request_id == "id-1"
    assert upload.header.options.separations[0].model == "htdemucs"


async def test_a_form_without_options_means_everything(client: Client) -> None:
    await client.json("POST", PATH, data=form(("file", b"RIFF")))
    assert not client.suite.library.uploads[0].header.HasField("options")


async def test_empty_options_differ_from_no_options(client: Client) -> None:
    await client.json("POST", PATH, data=form(("options", "{}"), ("file", b"RIFF")))
    assert client.suite.library.uploads[0].header.HasField("options")


@pytest.mark.parametrize(
    ("headers", "query", "name"),
    [
        ({"Content-Disposition": "attachment; filename=\"a.wav\"; filename*=UTF-8''caf%C3%A9.wav"}, {}, "café.wav"),
        ({"Content-Disposition": 'attachment; filename="../../etc/passwd"'}, {}, "passwd"),
        ({}, {"filename": "C:\\music\\song.mp3"}, "song.mp3"),
        ({"Content-Disposition": "attachment; filename=a.wav"}, {"filename": "b.wav"}, "b.wav"),
        ({}, {}, "upload"),
    ],
)
async def test_a_bare_body_and_its_name(
    client: Client, headers: dict[str, str], query: dict[str, str], name: str
) -> None:
    options = json.dumps({"analyses": [{"part": "PART_KEY"}]})
    params = {**query, "options": options, "requestId": "id-2"}
    status, content = await client.json("POST", PATH, data=b"RIFF", headers={**WAV, **headers}, params=params)
    assert (status, content["track"]["title"]) == (200, name)
    header = client.suite.library.uploads[0].header
    assert (len(header.options.analyses), header.request_id) == (1, "id-2")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b'filename="He said %22hi%22.wav"', 'He said "hi".wav'),
        (b'filename="He said \\"hi\\".wav"', 'He said "hi".wav'),
        (b'filename="two%0D%0Alines.wav"', "two lines.wav"),
        (b'filename="100%25 sure.wav"', "100%25 sure.wav"),
        (b"filename=\"a.wav\"; filename*=UTF-8''%E2%82%AC%20rates.wav", "€ rates.wav"),
        (b"filename*=iso-8859-1'en'%A3%20rates.wav", "£ rates.wav"),
        ('filename="夜に駆ける.wav"'.encode(), "夜に駆ける.wav"),
        (b'filename="Mr. Brightside"', "Mr. Brightside"),
        (b'filename="a;b, c.wav"', "a;b, c.wav"),
        (b'filename="' + b"x" * 251 + b'.wav"', "x" * 251 + ".wav"),
    ],
)
async def test_the_name_of_a_form_arrives_as_the_user_has_it(client: Client, disposition: bytes, name: str) -> None:
    """Browsers and curl escape quotes and line breaks, each in its own way; others follow RFC 5987 and RFC 8187."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; ' + disposition + b"\r\n\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    status, content = await client.json("POST", PATH, data=head + b"RIFF\r\n--b--\r\n", headers=headers)
    assert (status, content["track"]["title"]) == (200, name)


async def test_fifty_megabytes_arrive_complete_without_being_buffered(client: Client) -> None:
    expected = hashlib.sha256()
    async for piece in pieces(50):
        expected.update(piece)
    tracemalloc.start()
    try:
        status, _ = await client.json("POST", PATH, data=pieces(50), headers=WAV)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (upload,) = client.suite.library.uploads
    assert (status, upload.size, upload.digest.digest()) == (200, 50 * MIB, expected.digest())
    assert upload.largest_chunk <= MIB
    # Sender, gateway and library share this process.
    assert peak < 12 * MIB


async def test_fifty_megabytes_in_a_form(client: Client) -> None:
    status, _ = await client.json("POST", PATH, data=form(("file", pieces(50))))
    assert (status, client.suite.library.uploads[0].size) == (200, 50 * MIB)


async def test_a_slow_library_slows_the_client_down(client: Client) -> None:
    client.suite.library.upload_pace = 0.02
    sent = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal sent
        async for piece in pieces(200):
            sent += len(piece)
            yield piece

    request = asyncio.create_task(client.json("POST", PATH, data=counted(), headers=WAV))
    await until(lambda: client.suite.library.uploads and client.suite.library.uploads[0].size > MIB)
    # The bytes in flight fit into the buffers of sockets and gRPC.
    assert sent - client.suite.library.uploads[0].size < 40 * MIB
    request.cancel()
    await until(lambda: client.suite.library.uploads[0].ended == "cancelled")


@pytest.mark.parametrize("whole", ["chunked", "announced", "form"])
async def test_an_upload_that_breaks_off_leaves_nothing(client: Client, whole: str) -> None:
    body = {
        "chunked": b"Transfer-Encoding: chunked\r\nContent-Type: audio/wav\r\n\r\n10000\r\n" + b"x" * 65536 + b"\r\n",
        "announced": b"Content-Length: 1000000\r\nContent-Type: audio/wav\r\n\r\n" + b"x" * 65536,
        "form": (
            b"Content-Length: 1000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 600_000
        ),
    }[whole]
    _reader, writer = await asyncio.open_connection("127.0.0.1", client.gateway.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_of('ann')}\r\n"
    writer.write(head.encode() + body)
    await until(lambda: client.suite.library.uploads and client.suite.library.uploads[0].size > 0)
    writer.close()
    await until(lambda: client.suite.library.uploads[0].ended != "open")
    assert client.suite.library.uploads[0].ended == "cancelled"
    assert not client.suite.library.tracks["ann"]


async def test_a_broken_transfer_coding_is_refused(connect: Connect) -> None:
    client = await connect(body_idle_seconds=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.gateway.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_of('ann')}\r\n"
    writer.write(head.encode() + b"Content-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbytes\r\n")
    await until(lambda: client.suite.library.uploads and client.suite.library.uploads[0].size == 5)
    writer.write(b"no size\r\n")
    async with asyncio.timeout(5):
        # The parser does not say that the body is broken; nothing follows, and that is noticed.
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
    await until(lambda: client.suite.library.uploads[0].ended == "cancelled")


async def test_a_refusal_stops_reading_the_body(client: Client) -> None:
    client.suite.library.refuse_upload_at = MIB
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            yield b"x" * MIB
            sent += MIB
            await asyncio.sleep(0.01)

    assert await client.refused("POST", PATH, data=endless(), headers=WAV) == (413, "TOO_LARGE")
    assert sent < 100 * MIB


async def test_a_stranger_is_refused_while_the_upload_waits(connect: Connect) -> None:
    client = await connect(user=None)

    async def waiting() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(5)

    async with asyncio.timeout(2):
        assert await client.refused("POST", PATH, data=waiting(), headers=WAV) == (401, "UNAUTHENTICATED")
    assert client.suite.library.uploads == []


async def test_limits_of_size(connect: Connect) -> None:
    client = await connect(max_bytes=MIB)
    assert (await client.json("POST", PATH, data=pieces(1), headers=WAV))[0] == 200
    assert (await client.json("POST", PATH, data=form(("file", b"x" * MIB))))[0] == 200
    too_large = (413, "TOO_LARGE")
    assert await client.refused("POST", PATH, data=pieces(2), headers=WAV) == too_large
    assert await client.refused("POST", PATH, data=b"x" * (MIB + 1), headers=WAV) == too_large
    assert await client.refused("POST", PATH, data=form(("file", b"x" * (MIB + 1)))) == too_large
    assert await client.refused("POST", PATH, data=form(("options", " " * 2 * MIB), ("file", b"x"))) == too_large
    await until(lambda: all(upload.ended != "open" for upload in client.suite.library.uploads))
    assert [upload.ended for upload in client.suite.library.uploads].count("complete") == 2


async def test_too_large_a_file_is_refused_before_it_is_sent(connect: Connect) -> None:
    client = await connect(max_bytes=MIB)
    assert await client.refused("POST", PATH, data=b"x" * 9 * MIB, headers=WAV, expect100=True) == (413, "TOO_LARGE")
    assert (await client.json("POST", PATH, data=b"x" * 1000, headers=WAV, expect100=True))[0] == 200


async def test_an_upload_whose_bytes_stop_arriving_is_refused(connect: Connect) -> None:
    client = await connect(body_idle_seconds=0.1)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(1)

    assert await client.refused("POST", PATH, data=stalled(), headers=WAV) == (408, "BODY_TIMEOUT")


async def test_a_stopping_gateway_finishes_uploads_and_closes_connections(connect: Connect) -> None:
    client = await connect(shutdown_seconds=5.0)
    stopping: list[asyncio.Task[None]] = []

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        await until(lambda: bool(client.suite.library.uploads))
        stopping.append(asyncio.create_task(client.gateway.stop()))
        # By then it accepts no more connections.
        await asyncio.sleep(LAST_ANSWERS_SECONDS + 0.1)
        yield bytes(MIB)

    async with client.http.post(PATH, data=slow(), headers=WAV) as response:
        assert (response.status, response.headers["Connection"]) == (200, "close")
    await stopping[0]
    (upload,) = client.suite.library.uploads
    assert (upload.size, upload.ended) == (2 * MIB, "complete")


BAD_FORMS = {
    "options after the file": (form(("file", b"x"), ("options", "{}")), "OPTIONS_AFTER_FILE"),
    "no file": (form(("options", "{}")), "NO_FILE"),
    "two files": (form(("file", b"x"), ("file", b"y")), "BAD_REQUEST"),
    "another field": (form(("colour", "red"), ("file", b"x")), "BAD_REQUEST"),
    "options that are not JSON": (form(("options", "{"), ("file", b"x")), "BAD_REQUEST"),
    "unknown options": (form(("options", '{"loud": true}'), ("file", b"x")), "BAD_REQUEST"),
    "an id that is not text": (form(("requestId", b"\xff\xfe"), ("file", b"x")), "BAD_REQUEST"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_FORMS.values(), ids=BAD_FORMS)
async def test_a_bad_form_is_refused_by_reason(client: Client, data: aiohttp.FormData, reason: str) -> None:
    assert await client.refused("POST", PATH, data=data) == (400, reason)
    await until(lambda: all(upload.ended == "cancelled" for upload in client.suite.library.uploads))


FORM_START = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nbytes'
MALFORMED = {
    "no last boundary": FORM_START,
    "half a boundary": FORM_START + b"\r\n--",
    "no boundary at all": b"bytes",
    "nothing": b"",
    "no headers": b"--b\r\nbytes\r\n--b--\r\n",
    "no name": b"--b\r\nContent-Disposition: form-data\r\n\r\nbytes\r\n--b--\r\n",
    "odd headers": b"--b\r\n\x00: \xff\r\n\r\nbytes\r\n--b--\r\n",
    "endless header": b"--b\r\nX: " + b"x" * 100_000 + b"\r\n\r\nbytes\r\n--b--\r\n",
    "a form in the form": b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n--c--\r\n--b--\r\n",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_form_is_refused(client: Client, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    status, reason = await client.refused("POST", PATH, data=body, headers=headers)
    assert (status, reason) in {(400, "TRUNCATED"), (400, "NO_FILE"), (400, "BAD_REQUEST")}
    await until(lambda: all(upload.ended == "cancelled" for upload in client.suite.library.uploads))


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed"]
)
async def test_malformed_uploads(client: Client, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    assert await client.refused("POST", PATH, data=b"x", headers=headers) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert await client.refused("POST", PATH + "?colour=red", data=b"x", headers=WAV) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("song.mp3", "song.mp3"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\x.wav", "x.wav"),
        ("a\x00b\nc\u202e.wav", "ab c.wav"),
        ("e\u0301.wav", "é.wav"),
        ("x" * 500, "x" * 255),
        ("\u0645\u06cc\u200c\u062e.wav", "\u0645\u06cc\u200c\u062e.wav"),
        ("👩\u200d👩\u200d👧.wav", "👩\u200d👩\u200d👧.wav"),
        ("\u202eevil\u2066.wav", "evil.wav"),
        ("100%22.wav", "100%22.wav"),
        ("\udcff.wav", ".wav"),
        ("..", "upload"),
        ("/", "upload"),
        ("  ", "upload"),
    ],
)
def test_displayed_names_of_files(name: str, shown: str) -> None:
    assert display_name(name) == shown
