"""The library loses no data while its store is unavailable or replaced by that of another library."""

import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from sqlalchemy import update

from services.common.errors import UnavailableError
from services.common.observe.telemetry import HealthServer
from services.common.storage.database import Database, migrate
from services.common.storage.marked_store import MARKER, RESTORING
from services.common.storage.objects import ObjectStore
from services.download.tables import StoreIdentity
from services.download.upkeep.reservations import Reservations
from services.download.upkeep.store_identity import GuardedStore
from services.download.uploads.uploads import Uploads
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.common.s3_server import S3Server
from tests.download.conftest import RunningLibrary
from tests.download.upkeep.disk_library import DAY, DiskLibrary, write

SIZES = pytest.mark.parametrize("count", [1, 3, 12, 1000])


@SIZES
async def test_an_unmounted_volume_loses_no_data(disk_library: DiskLibrary, count: int, tmp_path: Path) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(count)
    there, elsewhere = disk_library.files(), tmp_path / "elsewhere"
    disk_library.root.rename(elsewhere)
    assert await disk_library.refusal() == "STORE_AWAY"
    disk_library.root.mkdir()  # the mount point
    for _start in range(2):
        assert await disk_library.refusal() == "STORE_AWAY"
    with pytest.raises(UnavailableError):
        await disk_library.store.put("originals/new", b"a song for the mount point")
    assert "STORE_AWAY" in await disk_library.store.problem()
    assert disk_library.files() == set()
    assert await disk_library.records() == (count, count)
    disk_library.root.rmdir()
    elsewhere.rename(disk_library.root)
    assert await disk_library.store.problem() == ""
    report = await disk_library.sweep()
    assert (report.object_count, report.missing_count, report.record_count) == (0, 0, 0)
    assert (disk_library.files(), await disk_library.records()) == (there, (count, count))


@SIZES
async def test_a_store_of_another_library_is_not_changed(disk_library: DiskLibrary, count: int, tmp_path: Path) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(count)
    own = tmp_path / "own"
    disk_library.root.rename(own)
    write(disk_library.root / MARKER, uuid.uuid4().hex.encode())
    write(disk_library.root / "originals" / ("0" * 64), b"theirs")
    theirs = disk_library.files()
    assert await disk_library.refusal() == "STORE_WRONG"
    for change in (disk_library.store.delete(f"originals/{'0' * 64}"), disk_library.store.put("originals/x", b"ours")):
        with pytest.raises(UnavailableError):
            await change
    assert (disk_library.files(), await disk_library.records()) == (theirs, (count, count))
    shutil.rmtree(disk_library.root)
    own.rename(disk_library.root)
    assert (await disk_library.sweep()).object_count == 0


async def test_a_new_library_marks_its_store_and_accepts_no_other(disk_library: DiskLibrary, tmp_path: Path) -> None:
    await disk_library.store.expect_right_store()
    marker = (disk_library.root / MARKER).read_text()
    async with disk_library.database.read() as session:
        row = await session.get(StoreIdentity, 1)
        assert row is not None
        assert (row.store_id, row.confirmed) == (marker, True)
    url = f"sqlite:///{tmp_path}/second.sqlite"
    await migrate(url, "services.download")
    async with Database(url) as database:
        second = GuardedStore(ObjectStore.from_url(str(disk_library.root)), database)
        assert "STORE_WRONG" in await second.problem()
        (disk_library.root / MARKER).unlink()
        await disk_library.add(1)
        assert "STORE_NOT_EMPTY" in await second.problem(), "a lost database does not make a store fresh"
        assert not (disk_library.root / MARKER).exists()
        await second.check.identify(adopt=True)
        assert await second.problem() == ""


@pytest.mark.parametrize(("count", "lost", "is_taken"), [(1, 0, True), (1, 1, False), (3, 1, True), (12, 6, False)])
async def test_an_unmarked_library_adopts_a_store_with_its_objects(
    disk_library: DiskLibrary, count: int, lost: int, is_taken: bool, tmp_path: Path
) -> None:
    keys = await disk_library.add(count)
    shutil.copytree(disk_library.root, tmp_path / "whole")
    for path in (
        *(disk_library.root / key for key in keys[:lost]),
        *sorted(disk_library.root.rglob("vocals.flac"))[:lost],
    ):
        path.unlink()
    there = disk_library.files()
    problem = await disk_library.store.problem()
    assert (problem == "") == is_taken
    assert disk_library.files() - there == ({MARKER} if is_taken else set())
    if not is_taken:
        assert await disk_library.refusal() == "STORE_AWAY"
        shutil.copytree(tmp_path / "whole", disk_library.root, dirs_exist_ok=True)
        assert await disk_library.store.problem() == "", "it recovers by itself"


async def test_a_library_with_an_older_database_finds_its_store(disk_library: DiskLibrary) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(3)
    async with disk_library.database.write() as session:
        await session.delete(await session.get(StoreIdentity, 1))
    again = GuardedStore(ObjectStore.from_url(str(disk_library.root)), disk_library.database)
    marker = (disk_library.root / MARKER).read_text()
    assert await again.problem() == ""
    assert (disk_library.root / MARKER).read_text() == marker


async def test_an_interrupted_marking_of_the_store_is_completed(disk_library: DiskLibrary) -> None:
    await disk_library.store.expect_right_store()
    marker = (disk_library.root / MARKER).read_text()
    for is_written in (True, False):
        async with disk_library.database.write() as session:
            await session.execute(update(StoreIdentity).values(confirmed=False))
        if not is_written:
            (disk_library.root / MARKER).unlink()
        again = GuardedStore(ObjectStore.from_url(str(disk_library.root)), disk_library.database)
        assert await again.problem() == ""
        assert (disk_library.root / MARKER).read_text() == marker


async def test_an_empty_store_is_never_adopted(disk_library: DiskLibrary, tmp_path: Path) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(2)
    disk_library.root.rename(tmp_path / "away")
    disk_library.root.mkdir()
    with pytest.raises(UnavailableError):
        await disk_library.store.check.identify(adopt=True)
    assert disk_library.files() == set()


@pytest.mark.parametrize("marker", [None, RESTORING])
async def test_an_adopted_store_without_an_id_gets_a_new_one(
    disk_library: DiskLibrary, tmp_path: Path, marker: str | None
) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(3)
    old = (disk_library.root / MARKER).read_text()
    shutil.copytree(disk_library.root, tmp_path / "old")
    (disk_library.root / MARKER).unlink()
    if marker:
        write(disk_library.root / MARKER, marker.encode())
        assert "restore" in await disk_library.store.problem()
    for _process in range(2):
        await GuardedStore(ObjectStore.from_url(str(disk_library.root)), disk_library.database).check.identify(
            adopt=True
        )
    assert (disk_library.root / MARKER).read_text() not in (old, RESTORING)
    assert await disk_library.store.problem() == ""
    shutil.rmtree(disk_library.root)
    (tmp_path / "old").rename(disk_library.root)
    assert await disk_library.refusal() == "STORE_WRONG"


async def test_an_interrupted_adoption_is_completed_at_the_next_start(
    disk_library: DiskLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(3)
    old = (disk_library.root / MARKER).read_text()
    (disk_library.root / MARKER).unlink()

    async def end(*_arguments: object) -> int:
        raise UnavailableError("the process ends here", "STORAGE_UNAVAILABLE")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put", end)
        with pytest.raises(UnavailableError):
            await disk_library.store.check.identify(adopt=True)
    assert not (disk_library.root / MARKER).exists()
    again = GuardedStore(ObjectStore.from_url(str(disk_library.root)), disk_library.database)
    assert await again.problem() == ""
    assert (disk_library.root / MARKER).read_text() != old


async def test_a_wrong_or_emptied_bucket_is_not_changed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    server = S3Server()
    runner = web.AppRunner(server.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    def bucket() -> ObjectStore:
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return ObjectStore.from_url("s3://songs/here", endpoint=endpoint, access_key_id="a", secret_access_key="b")

    async with Database(url) as database:
        disk_library = DiskLibrary(database, GuardedStore(bucket(), database), tmp_path / "unused")
        await disk_library.store.expect_right_store()
        await disk_library.add(3)
        own = dict(server.objects)
        for path in disk_library.root.rglob("*"):
            if path.is_file():
                own[f"here/{path.relative_to(disk_library.root)}"] = path.read_bytes()
        server.objects.clear()
        server.objects.update(own)
        assert (await disk_library.sweep()).missing_count == 0
        for others, reason in (
            ({}, "STORE_AWAY"),
            ({f"here/{MARKER}": b"2" * 32, "here/stems/x/y/z": b"t"}, "STORE_WRONG"),
        ):
            server.objects.clear()
            server.objects.update(others)
            disk_library.store = GuardedStore(bucket(), database)
            assert await disk_library.refusal() == reason
            with pytest.raises(UnavailableError):
                await disk_library.store.put("originals/new", b"ours")
            assert server.objects == others
            assert await disk_library.records() == (3, 3)
        half = {key: content for key, content in own.items() if "originals" not in key}
        server.objects.clear()
        server.objects.update(half)
        disk_library.store = GuardedStore(bucket(), database)
        report = await disk_library.sweep()
        assert (bool(report.held_back), report.missing_count) == (True, 3)
        assert server.objects == half
        server.objects.update(own)
        assert (await disk_library.sweep()).missing_count == 0
        assert server.objects == own
    await runner.cleanup()


async def test_removed_tracks_stay_while_the_store_is_unavailable(
    library: RunningLibrary, tmp_path: Path, song: Path
) -> None:
    track = await library.upload("anna", song)
    kept = await library.keys()
    root = library.objects._root
    assert root is not None
    await library.user_tracks.remove("anna", track.id, for_good=True)
    root.rename(tmp_path / "away")
    root.mkdir()
    with pytest.raises(UnavailableError) as refused:
        await library.trash.empty()
    assert refused.value.reason == "STORE_AWAY"
    assert await library.tracks.track(track.id) is not None
    with pytest.raises(UnavailableError):
        await library.upload("anna", song)
    assert list(root.iterdir()) == [], "nothing is written into the mount point"
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert await library.keys() == kept
    assert await library.trash.empty() == 1
    assert await library.keys() == []


async def test_an_upload_waits_for_an_unavailable_store(disk_library: DiskLibrary, tmp_path: Path) -> None:
    await disk_library.store.expect_right_store()
    uploads = Uploads(disk_library.database, disk_library.store, DAY, Reservations(disk_library.database, 0))
    upload = await uploads.create("anna", "song.wav", 9, None, "")
    finished: list[bytes] = []

    async def finish(_upload: object, content: AsyncIterator[bytes]) -> tuple[str, str]:
        finished.append(b"".join([piece async for piece in content]))
        return "track", "job"

    upload = await uploads.append("anna", upload.id, 0, chunks(b"12345"), finish)
    assert upload.offset_bytes == 5

    def go_away() -> None:
        disk_library.root.rename(tmp_path / "away")
        disk_library.root.mkdir()

    async def while_it_goes() -> AsyncIterator[bytes]:
        go_away()
        yield b"6789"

    with pytest.raises(UnavailableError):
        await uploads.append("anna", upload.id, 5, while_it_goes(), finish)
    with pytest.raises(UnavailableError):
        await uploads.append("anna", upload.id, 5, chunks(b"6789"), finish)
    with pytest.raises(UnavailableError):
        await uploads.forget_expired()
    disk_library.root.rmdir()
    (tmp_path / "away").rename(disk_library.root)
    upload = await uploads.append("anna", upload.id, 5, chunks(b"6789"), finish)
    assert (finished, upload.track_id) == ([b"123456789"], "track")


async def test_readiness_names_the_problem_of_the_store(disk_library: DiskLibrary) -> None:
    health = await HealthServer.start("127.0.0.1:0")
    health.ready, health.problem = True, disk_library.store.problem

    async def ask() -> tuple[int, str]:
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{health.port}/readyz") as answer:
            return answer.status, await answer.text()

    assert await ask() == (200, "ready\n")
    marker = (disk_library.root / MARKER).read_bytes()
    (disk_library.root / MARKER).unlink()
    status, text = await ask()
    assert (status, "STORE_AWAY" in text) == (503, True)
    write(disk_library.root / MARKER, marker)
    assert await ask() == (200, "ready\n")
    await health.stop()


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.wav", music(2))
