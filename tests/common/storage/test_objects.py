"""Object storage in a directory and in an S3 bucket; the same tests run for both."""

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from services.common.errors import InvalidInputError, NotFoundError, UnavailableError
from services.common.storage.object_info import check_key
from services.common.storage.objects import ObjectStore
from tests.common.s3_server import S3Server

MIB = 1024 * 1024


@contextlib.asynccontextmanager
async def s3_store() -> AsyncIterator[tuple[ObjectStore, S3Server]]:
    server = S3Server()
    async with TestServer(server.app()) as http:
        url = f"http://127.0.0.1:{http.port}"
        keys: dict[str, Any] = {"access_key_id": "id", "secret_access_key": "secret"}
        yield ObjectStore.from_url("s3://bucket/some/prefix", endpoint=url, region="us-east-1", **keys), server


@pytest.fixture
async def s3() -> AsyncIterator[tuple[ObjectStore, S3Server]]:
    async with s3_store() as opened:
        yield opened


@pytest.fixture(params=["directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    if request.param == "directory":
        yield ObjectStore.from_url(str(tmp_path / "objects"))
    else:
        async with s3_store() as (opened, _):
            yield opened


async def pieces_of(data: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


async def broken_after(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(MIB)
    raise ValueError("the client went away")


async def keys_in(store: ObjectStore, prefix: str | None = None) -> list[str]:
    return sorted([info.key async for info in store.list(prefix)])


def everything_below(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


async def test_an_object_comes_back_as_it_was_put(store: ObjectStore) -> None:
    assert await store.put("tracks/1/original.mp3", b"hello", "audio/mpeg") == 5
    assert await store.get("tracks/1/original.mp3") == b"hello"
    info = await store.head("tracks/1/original.mp3")
    assert (info.key, info.size) == ("tracks/1/original.mp3", 5)
    assert info.etag.startswith('"')
    assert info.last_modified.tzinfo is not None
    assert await store.exists("tracks/1/original.mp3")
    await store.put("tracks/1/original.mp3", b"other")
    assert await store.get("tracks/1/original.mp3") == b"other"
    assert (await store.head("tracks/1/original.mp3")).etag != info.etag


async def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    assert await store.put("empty", b"") == 0
    assert await store.get("empty") == b""
    assert [piece async for piece in store.stream("empty")] == []
    file = await asyncio.to_thread(store.open, "empty")
    assert await asyncio.to_thread(file.read) == b""


async def test_large_objects_stream_in_and_out(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(19 * MIB + 7)
    assert await store.put("from/iterator", pieces_of(data)) == len(data)
    (tmp_path / "file").write_bytes(data)
    assert await store.put("from/path", tmp_path / "file") == len(data)
    for key in ("from/iterator", "from/path"):
        pieces = [piece async for piece in store.stream(key, chunk=4 * MIB)]
        assert [len(piece) for piece in pieces] == [4 * MIB] * 4 + [3 * MIB + 7]
        assert b"".join(pieces) == data


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 3, b"012"), (4, 3, b"456"), (8, 10, b"89"), (10, 1, b""), (99, 5, b""), (3, 0, b"")],
)
async def test_ranges_end_where_the_object_ends(store: ObjectStore, start: int, length: int, expected: bytes) -> None:
    await store.put("digits", b"0123456789")
    assert b"".join([piece async for piece in store.stream("digits", start, length, chunk=2)]) == expected


async def test_negative_ranges_are_refused(store: ObjectStore) -> None:
    await store.put("digits", b"0123456789")
    for start, length in ((-1, 2), (0, -1)):
        with pytest.raises(InvalidInputError) as caught:
            _ = [piece async for piece in store.stream("digits", start, length)]
        assert caught.value.reason == "BAD_RANGE"


@pytest.mark.parametrize("count", [0, 2, 20])
async def test_nothing_remains_of_a_broken_upload(store: ObjectStore, count: int) -> None:
    await store.put("kept", b"old")
    with pytest.raises(ValueError, match="went away"):
        await store.put("kept", broken_after(count))
    with pytest.raises(ValueError, match="went away"):
        await store.put("new/one", broken_after(count))
    assert await keys_in(store) == ["kept"]
    assert await store.get("kept") == b"old"


async def test_a_broken_upload_leaves_no_files_or_directories(tmp_path: Path) -> None:
    store = ObjectStore.from_url((tmp_path / "objects").as_uri())
    with pytest.raises(ValueError, match="went away"):
        await store.put("a/b/c", broken_after(20))
    assert everything_below(tmp_path / "objects") == []


async def test_a_broken_upload_leaves_no_parts_on_s3(s3: tuple[ObjectStore, S3Server]) -> None:
    store, server = s3
    with pytest.raises(ValueError, match="went away"):
        await store.put("a/b/c", broken_after(20))
    assert "POST uploads" in server.requests
    assert server.uploads == {}
    assert server.objects == {}


async def cancel_in_the_middle(store: ObjectStore) -> None:
    sent = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield bytes(MIB)
        sent.set()
        await asyncio.sleep(60)

    upload = asyncio.create_task(store.put("a/b", endless()))
    await sent.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload


async def test_a_cancelled_upload_leaves_no_files(tmp_path: Path) -> None:
    await cancel_in_the_middle(ObjectStore.from_url(str(tmp_path)))
    assert everything_below(tmp_path) == []


async def test_a_cancelled_upload_leaves_no_parts_on_s3(s3: tuple[ObjectStore, S3Server]) -> None:
    store, server = s3
    await cancel_in_the_middle(store)
    assert server.uploads == {}
    assert server.objects == {}


async def test_files_of_a_killed_process_are_not_objects_and_are_removed_with_their_prefix(tmp_path: Path) -> None:
    store = ObjectStore.from_url(str(tmp_path))
    await store.put("tracks/1/song", b"x")
    (tmp_path / "tracks/1/song#1").write_bytes(b"half an upl")
    assert await keys_in(store) == ["tracks/1/song"]
    assert await store.delete_prefix("tracks/1") == 1
    assert not (tmp_path / "tracks/1").exists()


async def test_missing_objects_are_not_found(store: ObjectStore) -> None:
    async def read_stream() -> None:
        _ = [piece async for piece in store.stream("no/such")]

    for attempt in (
        store.get("no/such"),
        store.head("no/such"),
        store.copy("no/such", "x"),
        asyncio.to_thread(store.open, "no/such"),
        read_stream(),
    ):
        with pytest.raises(NotFoundError) as caught:
            await attempt
        assert caught.value.reason == "NO_SUCH_OBJECT"
        assert "/" not in caught.value.message
    assert not await store.exists("no/such")


BAD_KEYS = ["", "/etc/passwd", "../secret", "a/../b", "a//b", "a/", "/", ".", "a/.", "a/...", "a b", "a\\b", "ä", "a\n"]
BAD_KEYS += ["a/%2e%2e", "a#1", "x" * 201, "/".join(["x" * 100] * 6)]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_keys_that_could_leave_the_store_are_refused(store: ObjectStore, key: str) -> None:
    for attempt in (store.get(key), store.put(key, b""), store.delete(key), store.copy(key, "a"), store.copy("a", key)):
        with pytest.raises(InvalidInputError) as caught:
            await attempt
        assert caught.value.reason == "BAD_KEY"
    with pytest.raises(InvalidInputError):
        store.open(key)


def test_usual_keys_are_fine() -> None:
    for key in ("a", "tracks/0190f/stems/htdemucs/vocals.flac", ".tmp/x", "a-b_c.D.1", "x" * 200):
        check_key(key)


async def test_list_matches_whole_segments(store: ObjectStore) -> None:
    for key in ("a/b/1", "a/b/2", "a/bc/3", "d"):
        await store.put(key, key.encode())
    assert await keys_in(store) == ["a/b/1", "a/b/2", "a/bc/3", "d"]
    assert await keys_in(store, "a/b") == ["a/b/1", "a/b/2"]
    assert await keys_in(store, "no/such") == []
    assert {info.key: info.size async for info in store.list("a")} == {"a/b/1": 5, "a/b/2": 5, "a/bc/3": 6}


async def test_a_copy_remains_when_the_original_is_deleted(store: ObjectStore) -> None:
    await store.put("stems/vocals.flac", b"stem")
    await store.copy("stems/vocals.flac", "copies/vocals.flac")
    assert await keys_in(store) == ["copies/vocals.flac", "stems/vocals.flac"]
    await store.delete("stems/vocals.flac")
    assert await store.get("copies/vocals.flac") == b"stem"


async def test_delete_is_idempotent(store: ObjectStore) -> None:
    await store.put("a/1", b"")
    for _ in range(2):
        await store.delete("a/1")
    await store.delete("a/1/below/a/missing/one")
    assert await keys_in(store) == []
    for number in range(7):
        await store.put(f"a/b/{number}", b"")
    await store.put("ab", b"")
    assert await store.delete_prefix("a") == 7
    assert await store.delete_prefix("a") == 0
    assert await keys_in(store) == ["ab"]


async def test_worker_threads_get_a_seekable_file(store: ObjectStore) -> None:
    data = os.urandom(3 * MIB)
    await store.put("song", data)

    def read() -> None:
        with store.open("song") as file:
            assert file.seekable()
            assert file.read(10) == data[:10]
            assert file.seek(-5, io.SEEK_END) == len(data) - 5
            assert file.read() == data[-5:]
            assert file.read(1) == b""
            file.seek(MIB + 1)
            assert file.read(2 * MIB) == data[MIB + 1 :]
            assert file.tell() == len(data)

    await asyncio.to_thread(read)


async def test_a_local_object_is_a_real_file(tmp_path: Path) -> None:
    store = ObjectStore.from_url(str(tmp_path))
    await store.put("a/b", b"x")
    assert (tmp_path / "a" / "b").read_bytes() == b"x"
    with store.open("a/b") as file:
        assert os.fstat(file.fileno()).st_size == 1


async def test_s3_keeps_the_prefix_and_the_content_type(s3: tuple[ObjectStore, S3Server]) -> None:
    store, server = s3
    await store.put("small", b"x", "audio/flac")
    await store.put("large", bytes(9 * MIB), "audio/wav")
    assert server.content_types == {"some/prefix/small": "audio/flac", "some/prefix/large": "audio/wav"}


async def test_a_reader_never_mixes_two_versions(store: ObjectStore) -> None:
    await store.put("song", b"a" * 100)
    stream = store.stream("song", chunk=50)
    assert await anext(stream) == b"a" * 50
    await store.put("song", b"b" * 101)
    with pytest.raises(UnavailableError) as caught:
        await anext(stream)
    assert caught.value.reason == "OBJECT_CHANGED"


async def test_other_tasks_run_while_the_storage_works(store: ObjectStore) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    clock = asyncio.create_task(tick())
    await store.put("song", bytes(30 * MIB))
    await store.get("song")
    clock.cancel()
    assert ticks > 5


async def test_a_storage_that_is_down_is_unavailable() -> None:
    async with s3_store() as (store, _):
        pass
    with pytest.raises(UnavailableError) as caught:
        await store.get("song")
    assert caught.value.reason == "STORAGE_UNAVAILABLE"
    assert "127.0.0.1" not in caught.value.message


@pytest.mark.parametrize("url", ["", "ftp://host/dir", "s3://", "s3:///prefix", "file://host/dir", "gs://bucket"])
def test_unknown_storage_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ObjectStore.from_url(url)
    assert caught.value.reason == "BAD_STORAGE_URL"
