"""Bytes wait for the object store in a file, which becomes the object if possible."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import UnavailableError
from services.common.storage import spool
from services.common.storage.objects import ObjectStore
from services.common.storage.spool import Spool
from tests.common.storage.test_objects import s3_store

DATA = os.urandom(300_000)


async def content_of(kept: Spool, limit: int | None = None) -> bytes:
    return b"".join([piece async for piece in kept.pieces(limit)])


def linkable(folder: Path) -> bool:
    """Whether the system and the file system can link such files; everything else must work without this."""
    unnamed = getattr(os, "O_TMPFILE", 0)
    try:
        os.close(os.open(folder, unnamed | os.O_RDWR))
    except OSError:
        return False
    return bool(unnamed)


@pytest.fixture(params=["directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    if request.param == "directory":
        yield ObjectStore.from_url(str(tmp_path / "objects"))
    else:
        async with s3_store() as (opened, _):
            yield opened


@pytest.mark.parametrize("sizes", [(3, 4), (1000, 1, 5000), (0, 4096, 4096)])
async def test_a_spool_returns_its_bytes(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BUFFER_BYTES", 1024)
    whole = b"".join(bytes([number % 251]) * size for number, size in enumerate(sizes))
    kept = Spool()
    for number, size in enumerate(sizes):
        await kept.add(bytes([number % 251]) * size)
    assert kept.size == len(whole)
    assert b"".join([piece async for piece in kept.pieces()]) == whole
    for limit in (0, 1, 1024, len(whole) - 1, len(whole) + 5):
        assert b"".join([piece async for piece in kept.pieces(limit)]) == whole[:limit]
    await kept.clear()
    assert kept.size == 0
    await kept.add(b"again")
    assert b"".join([piece async for piece in kept.pieces()]) == b"again"
    await kept.clear()


async def test_a_spool_becomes_an_object(store: ObjectStore) -> None:
    kept = store.spool()
    for start in range(0, len(DATA), 70_000):
        await kept.add(DATA[start : start + 70_000])
    assert await store.put("a/song", kept) == len(DATA)
    assert await content_of(kept) == DATA
    await kept.clear()
    assert await store.get("a/song") == DATA
    await kept.add(b"another" * 30_000)
    assert await store.put("a/song", kept) == 210_000
    await kept.clear()
    assert await store.get("a/song") == b"another" * 30_000
    await store.delete("a/song")
    assert [info.key async for info in store.list()] == []


async def test_a_directory_links_the_spools_file(tmp_path: Path) -> None:
    store = ObjectStore.from_url(str(tmp_path))
    kept = store.spool()
    await kept.add(DATA)
    if not linkable(tmp_path):
        pytest.skip("no file without a name can be linked here")
    assert kept._file is not None
    number = os.fstat(kept._file.fileno()).st_ino
    await store.put("a/b/song", kept)
    assert (tmp_path / "a" / "b" / "song").stat().st_ino == number
    with pytest.raises(RuntimeError):
        await kept.add(b"more")
    await kept.clear()


async def test_a_spool_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    store = ObjectStore.from_url(str(tmp_path / "objects"))
    kept = store.spool()
    await kept.add(DATA)
    assert not os.listdir(tmp_path / "objects")
    await kept.clear()


async def test_a_store_whose_folder_is_gone_gets_the_bytes_when_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    store = ObjectStore.from_url(str(tmp_path / "objects"))
    (tmp_path / "objects").rename(tmp_path / "away")
    kept = store.spool()
    await kept.add(DATA)
    (tmp_path / "away").rename(tmp_path / "objects")
    await store.put("song", kept)
    await kept.clear()
    assert await store.get("song") == DATA


async def test_a_full_disk_is_an_error_of_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ObjectStore.from_url(str(tmp_path)).spool()
    await kept.add(DATA)

    class Full:
        def __getattr__(self, name: str) -> object:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(kept, "_file", Full())
    with pytest.raises(UnavailableError) as told:
        await kept.add(DATA)
    assert told.value.reason == "DISK_FULL"
    await kept.clear()
