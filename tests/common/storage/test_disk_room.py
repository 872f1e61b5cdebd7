"""Jobs need room on the disks of their process, besides the object store."""

import os
from pathlib import Path

import pytest

from services.common.storage import disk_room
from services.common.storage.disk_room import needs_of
from services.common.storage.marked_store import MARKER, MarkedStore
from services.common.storage.objects import ObjectStore


async def test_jobs_wait_for_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MarkedStore(ObjectStore.from_url(str(tmp_path / "objects")))
    problem = needs_of(store, tmp_path)
    assert "STORE_AWAY" in await problem()
    await ObjectStore(store._opener).put(MARKER, b"1")
    assert await problem() == ""
    free = os.statvfs(tmp_path)
    monkeypatch.setattr(disk_room, "ROOM_BYTES", free.f_blocks * free.f_frsize + 1)
    assert "DISK_FULL" in await problem()


async def test_a_missing_folder_is_not_a_full_disk(tmp_path: Path) -> None:
    await ObjectStore.from_url(str(tmp_path / "objects")).put(MARKER, b"1")
    store = MarkedStore(ObjectStore.from_url(str(tmp_path / "objects")))
    assert await needs_of(store, tmp_path / "none")() == ""
