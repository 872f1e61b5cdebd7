"""Text with control characters, sent by gRPC or stored by earlier versions, does not break headers."""

import sqlite3
from typing import Any

import grpc.aio
import pytest

from services.common.errors import Code
from songs.small_songs import music
from stemtube.download.v1 import media_pb2, upload_pb2
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client
from tests.suite.grpc_client import GrpcClient, refusal
from tests.suite.running import Suite
from tests.suite.test_tus import append, request

CONTROLS = [*map(chr, range(0x20)), "\x7f", "\x85", "\u2028", "\u2029"]
TUS_PATH = "/uploads"


async def test_control_characters_are_refused_in_requests(grpc_client: GrpcClient) -> None:
    uploads, metadata = grpc_client.uploads, grpc_client.metadata

    async def uploading(name: str) -> Any:
        async def requests() -> Any:
            yield upload_pb2.UploadTrackRequest(header=upload_pb2.UploadHeader(filename=name))
            yield upload_pb2.UploadTrackRequest(chunk=b"RIFF")

        return await uploads.UploadTrack(requests(), metadata=metadata)

    for character in CONTROLS:
        text = f"a{character}b"
        for announced in (
            upload_pb2.CreateUploadRequest(filename="a.wav", size_bytes=5, metadata=text),
            upload_pb2.CreateUploadRequest(filename=text, size_bytes=5),
        ):
            refused = await refusal(uploads.CreateUpload(announced, metadata=metadata))
            assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "BAD_REQUEST"), (character, announced)
        refused = await refusal(uploading(text))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "BAD_REQUEST"), character
    for long in (
        upload_pb2.CreateUploadRequest(filename="a.wav", size_bytes=5, metadata="x" * 8001),
        upload_pb2.CreateUploadRequest(filename="x" * 1001, size_bytes=5),
        upload_pb2.CreateUploadRequest(filename="a.wav", size_bytes=5, metadata="é"),
    ):
        assert (await refusal(uploads.CreateUpload(long, metadata=metadata))).reason == "BAD_REQUEST"


async def test_a_lone_surrogate_is_refused(suite: Suite, grpc_client: GrpcClient) -> None:
    surrogate = b"\xed\xa0\x80"
    message = b"\x18\x05\x22" + bytes([len(surrogate)]) + surrogate
    async with grpc.aio.insecure_channel(f"127.0.0.1:{suite.ports['download']}") as channel:
        path = "/stemtube.download.v1.UploadService/CreateUpload"
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        refused = await refusal(call(message, metadata=grpc_client.metadata))
    assert refused.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("character", [*CONTROLS, "é", "\U0001f3b8"])
async def test_stored_text_cannot_break_headers_of_an_upload(
    suite: Suite, ben: Client, grpc_client: GrpcClient, character: str
) -> None:
    announced = upload_pb2.CreateUploadRequest(filename="a.wav", size_bytes=1000, metadata="kept")
    upload = (await grpc_client.uploads.CreateUpload(announced, metadata=grpc_client.metadata)).upload
    path = f"{TUS_PATH}/{upload.id}"
    assert (await request(ben, "HEAD", path))[1]["Upload-Metadata"] == "kept"
    with sqlite3.connect(suite.data / "databases" / "download.sqlite", timeout=30) as database:
        stored = f"a{character}Injected: yes"
        database.execute(
            "UPDATE uploads SET client_metadata = ?, filename = ? WHERE id = ?", (stored, stored, upload.id)
        )
    status, headers, _ = await request(ben, "HEAD", path)
    assert (status, headers["Upload-Offset"]) == (200, "0")
    assert "Injected" not in headers
    assert headers.get("Upload-Metadata", "").isprintable()
    assert (await ben.get(path))["upload"]["metadata"] == stored
    assert (await append(ben, path, 0, b"x" * 10))[0] == 204
    assert (await request(ben, "DELETE", path))[0] == 204


async def test_stored_titles_cannot_break_headers_of_media_and_exports(
    suite: Suite, ben: Client, grpc_client: GrpcClient, tmp_path: Any
) -> None:
    track = (await grpc_client.upload(with_soundfile(tmp_path / "song.flac", music(1, seed=77)))).track
    with sqlite3.connect(suite.data / "databases" / "download.sqlite", timeout=30) as database:
        key = '{"tonic": "C", "mode": "major"}'
        database.execute(
            "INSERT INTO analyses (track_id, part, content, summary) VALUES (?, 'key', ?, ?)", (track.id, key, key)
        )
    for character in (*CONTROLS[1:], "\U0001f3b8" * 200):
        title = f'a{character}Injected: yes"; x'
        with sqlite3.connect(suite.data / "databases" / "download.sqlite", timeout=30) as database:
            database.execute("UPDATE access SET title = NULL, artist = NULL WHERE track_id = ?", (track.id,))
            database.execute("UPDATE tracks SET title = ?, artist = ? WHERE id = ?", (title, title, track.id))
        for path in (f"/tracks/{track.id}/audio?download=1", f"/tracks/{track.id}/exports/jams"):
            status, _body, headers = await ben.bytes(path)
            assert status == 200, (path, title)
            assert "Injected" not in headers
            assert headers["Content-Disposition"].isprintable()


async def test_an_error_that_repeats_a_long_text_is_still_delivered(grpc_client: GrpcClient, tmp_path: Any) -> None:
    track = (await grpc_client.upload(with_soundfile(tmp_path / "song.flac", music(1, seed=78)))).track
    for text in ("x" * 1_000_000, "\U0001f3b8" * 100_000, "\0" * 50_000):
        asked = media_pb2.GetMediaRequest(track_id=track.id, kind=media_pb2.MEDIA_KIND_AUDIO, format=text)
        refused = await refusal(grpc_client.media.GetMedia(asked, metadata=grpc_client.metadata))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "UNKNOWN_FORMAT")
