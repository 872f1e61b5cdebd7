"""A library's store that is away in several ways: processes start, wait, and continue when it is back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.errors import NotFoundError, UnavailableError
from services.common.storage import marked_store, objects
from services.common.storage.marked_store import MARKER, MarkedStore
from services.common.storage.objects import ObjectStore
from tests.common.s3_server import S3Server

SONG = "originals/song"


def nothing_mounted(root: Path) -> None:
    root.mkdir()


def no_folder(_root: Path) -> None:
    pass


def a_file_in_its_place(root: Path) -> None:
    root.write_bytes(b"")


def a_file_in_its_parents_place(root: Path) -> None:
    root.parent.rename(root.parent.with_name("away"))
    root.parent.write_bytes(b"")


async def expect_away(store: MarkedStore, reason: str) -> None:
    assert reason in await store.problem()
    with pytest.raises(UnavailableError) as caught:
        await store.get(SONG)
    assert caught.value.reason == reason
    for call in (store.exists(SONG), store.put("stems/a", b"1"), store.delete(SONG), store.copy(SONG, "b")):
        with pytest.raises(UnavailableError):
            await call
    with pytest.raises(UnavailableError):
        await asyncio.to_thread(store.open, SONG)
    with pytest.raises(UnavailableError):
        [info async for info in store.list("originals")]


async def expect_there(store: MarkedStore) -> None:
    assert await store.problem() == ""
    assert await store.get(SONG) == b"la la"
    assert await asyncio.to_thread(lambda: store.open(SONG).read()) == b"la la"
    for missing in (store.get("originals/none"), store.copy("originals/none", "b")):
        with pytest.raises(NotFoundError):
            await missing
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(store.open, "originals/none")
    assert not await store.exists("originals/none")
    await store.put("stems/a", b"1")


async def fill(store: ObjectStore) -> None:
    await store.put(MARKER, b"0123")
    await store.put(SONG, b"la la")


@pytest.mark.parametrize("was_open", [False, True], ids=["at-the-start", "later"])
@pytest.mark.parametrize(
    ("take_away", "reason"),
    [
        (nothing_mounted, "STORE_AWAY"),
        (no_folder, "STORE_AWAY"),
        (a_file_in_its_place, "STORAGE_UNAVAILABLE"),
        (a_file_in_its_parents_place, "STORAGE_UNAVAILABLE"),
    ],
)
async def test_a_folder_that_is_away_is_used_again_when_it_returns(
    take_away: Callable[[Path], None], reason: str, was_open: bool, tmp_path: Path
) -> None:
    root = tmp_path / "data" / "objects"
    await fill(ObjectStore.from_url(str(root)))
    there = tmp_path / "there"
    store = MarkedStore(ObjectStore.from_url(str(root)))
    if was_open:
        await expect_there(store)
    root.rename(there)
    take_away(root)
    await expect_away(store, reason)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        root.unlink() if root.is_file() else root.rmdir()
    if not root.parent.is_dir():
        root.parent.unlink()
        root.parent.mkdir()
    there.rename(root)
    await expect_there(store)


@contextlib.asynccontextmanager
async def bucket(port: int = 0) -> AsyncIterator[tuple[S3Server, int]]:
    server = S3Server()
    async with TestServer(server.app(), port=port) as http:
        yield server, http.port or 0


def remote(port: int) -> MarkedStore:
    keys: dict[str, Any] = {"access_key_id": "id", "secret_access_key": "secret", "region": "us-east-1"}
    return MarkedStore(ObjectStore.from_url("s3://songs", endpoint=f"http://127.0.0.1:{port}", **keys))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_RETRY_TIMEOUT", objects._RETRY_TIMEOUT / 100)
    monkeypatch.setattr(marked_store, "BELIEVED_SECONDS", 0.0)


async def test_an_empty_bucket_counts_as_away(impatient: None) -> None:
    async with bucket() as (_server, port):
        store = remote(port)
        await expect_away(store, "STORE_AWAY")
        await fill(ObjectStore(store._opener))
        await expect_there(store)


async def test_an_unreachable_bucket_counts_as_away(impatient: None) -> None:
    async with bucket() as (_server, port):
        store = remote(port)
    await expect_away(store, "STORAGE_UNAVAILABLE")
    async with bucket(port):
        await fill(ObjectStore(store._opener))
        await expect_there(store)


async def test_a_bucket_that_refuses_requests_counts_as_away(impatient: None) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", refuse)
    async with TestServer(app) as http:
        port = http.port or 0
        store = remote(port)
        await expect_away(store, "STORAGE_UNAVAILABLE")
    async with bucket(port):
        await fill(ObjectStore(store._opener))
        await expect_there(store)
