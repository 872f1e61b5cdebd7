"""The library keeps its files when the store is away, or is another library's, and when it comes back."""

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
from tests.common.audio_files import music, with_soundfile
from tests.common.s3_server import S3Server
from tests.download.conftest import Acquiring
from tests.download.upkeep.shop import DAY, Shop, write

SIZES = pytest.mark.parametrize("count", [1, 3, 12, 1000])


@SIZES
async def test_a_volume_that_is_not_mounted_costs_nothing(shop: Shop, count: int, tmp_path: Path) -> None:
    await shop.store.expect_right_store()
    await shop.add(count)
    there, elsewhere = shop.files(), tmp_path / "elsewhere"
    shop.root.rename(elsewhere)
    assert await shop.refusal() == "STORE_AWAY"
    shop.root.mkdir()  # the mount point
    for _start in range(2):
        assert await shop.refusal() == "STORE_AWAY"
    with pytest.raises(UnavailableError):
        await shop.store.put("originals/new", b"a song that would lie in the mount point")
    assert "STORE_AWAY" in await shop.store.problem()
    assert shop.files() == set()
    assert await shop.records() == (count, count)
    shop.root.rmdir()
    elsewhere.rename(shop.root)
    assert await shop.store.problem() == ""
    report = await shop.sweep()
    assert (report.object_count, report.missing_count, report.record_count) == (0, 0, 0)
    assert (shop.files(), await shop.records()) == (there, (count, count))


@SIZES
async def test_a_store_of_another_library_is_left_alone(shop: Shop, count: int, tmp_path: Path) -> None:
    await shop.store.expect_right_store()
    await shop.add(count)
    own = tmp_path / "own"
    shop.root.rename(own)
    write(shop.root / MARKER, uuid.uuid4().hex.encode())
    write(shop.root / "originals" / ("0" * 64), b"theirs")
    theirs = shop.files()
    assert await shop.refusal() == "STORE_WRONG"
    for change in (shop.store.delete(f"originals/{'0' * 64}"), shop.store.put("originals/x", b"ours")):
        with pytest.raises(UnavailableError):
            await change
    assert (shop.files(), await shop.records()) == (theirs, (count, count))
    shutil.rmtree(shop.root)
    own.rename(shop.root)
    assert (await shop.sweep()).object_count == 0


async def test_a_fresh_library_marks_its_store_and_takes_no_other(shop: Shop, tmp_path: Path) -> None:
    await shop.store.expect_right_store()
    marker = (shop.root / MARKER).read_text()
    async with shop.database.read() as session:
        row = await session.get(StoreIdentity, 1)
        assert row is not None
        assert (row.store_id, row.confirmed) == (marker, True)
    url = f"sqlite:///{tmp_path}/second.sqlite"
    await migrate(url, "services.download")
    async with Database(url) as database:
        second = GuardedStore(ObjectStore.from_url(str(shop.root)), database)
        assert "STORE_WRONG" in await second.problem()
        (shop.root / MARKER).unlink()
        await shop.add(1)
        assert "STORE_NOT_EMPTY" in await second.problem(), "a lost database does not make a store fresh"
        assert not (shop.root / MARKER).exists()
        await second.check.settle(adopt=True)
        assert await second.problem() == ""


@pytest.mark.parametrize(("count", "lost", "is_taken"), [(1, 0, True), (1, 1, False), (3, 1, True), (12, 6, False)])
async def test_a_library_from_before_takes_a_store_that_holds_its_objects(
    shop: Shop, count: int, lost: int, is_taken: bool, tmp_path: Path
) -> None:
    keys = await shop.add(count)
    shutil.copytree(shop.root, tmp_path / "whole")
    for path in (*(shop.root / key for key in keys[:lost]), *sorted(shop.root.rglob("vocals.flac"))[:lost]):
        path.unlink()
    there = shop.files()
    problem = await shop.store.problem()
    assert (problem == "") == is_taken
    assert shop.files() - there == ({MARKER} if is_taken else set())
    if not is_taken:
        assert await shop.refusal() == "STORE_AWAY"
        shutil.copytree(tmp_path / "whole", shop.root, dirs_exist_ok=True)
        assert await shop.store.problem() == "", "it recovers by itself"


async def test_a_library_whose_database_was_replaced_by_one_from_before_finds_its_store(shop: Shop) -> None:
    await shop.store.expect_right_store()
    await shop.add(3)
    async with shop.database.write() as session:
        await session.delete(await session.get(StoreIdentity, 1))
    again = GuardedStore(ObjectStore.from_url(str(shop.root)), shop.database)
    marker = (shop.root / MARKER).read_text()
    assert await again.problem() == ""
    assert (shop.root / MARKER).read_text() == marker


async def test_a_process_that_ends_while_it_marks_the_store_is_gone_on_from(shop: Shop) -> None:
    await shop.store.expect_right_store()
    marker = (shop.root / MARKER).read_text()
    for is_written in (True, False):
        async with shop.database.write() as session:
            await session.execute(update(StoreIdentity).values(confirmed=False))
        if not is_written:
            (shop.root / MARKER).unlink()
        again = GuardedStore(ObjectStore.from_url(str(shop.root)), shop.database)
        assert await again.problem() == ""
        assert (shop.root / MARKER).read_text() == marker


async def test_a_store_without_anything_is_not_taken_even_if_told_so(shop: Shop, tmp_path: Path) -> None:
    await shop.store.expect_right_store()
    await shop.add(2)
    shop.root.rename(tmp_path / "away")
    shop.root.mkdir()
    with pytest.raises(UnavailableError):
        await shop.store.check.settle(adopt=True)
    assert shop.files() == set()


@pytest.mark.parametrize("marker", [None, RESTORING])
async def test_a_store_without_an_id_that_is_adopted_gets_another_one_than_the_old_store(
    shop: Shop, tmp_path: Path, marker: str | None
) -> None:
    await shop.store.expect_right_store()
    await shop.add(3)
    old = (shop.root / MARKER).read_text()
    shutil.copytree(shop.root, tmp_path / "old")
    (shop.root / MARKER).unlink()
    if marker:
        write(shop.root / MARKER, marker.encode())
        assert "restore" in await shop.store.problem()
    for _process in range(2):
        await GuardedStore(ObjectStore.from_url(str(shop.root)), shop.database).check.settle(adopt=True)
    assert (shop.root / MARKER).read_text() not in (old, RESTORING)
    assert await shop.store.problem() == ""
    shutil.rmtree(shop.root)
    (tmp_path / "old").rename(shop.root)
    assert await shop.refusal() == "STORE_WRONG"


async def test_a_process_that_ends_while_it_adopts_a_store_is_gone_on_from(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.store.expect_right_store()
    await shop.add(3)
    old = (shop.root / MARKER).read_text()
    (shop.root / MARKER).unlink()

    async def end(*_arguments: object) -> int:
        raise UnavailableError("the process ends here", "STORAGE_UNAVAILABLE")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put", end)
        with pytest.raises(UnavailableError):
            await shop.store.check.settle(adopt=True)
    assert not (shop.root / MARKER).exists()
    again = GuardedStore(ObjectStore.from_url(str(shop.root)), shop.database)
    assert await again.problem() == ""
    assert (shop.root / MARKER).read_text() != old


async def test_a_wrong_or_emptied_bucket_is_left_alone(tmp_path: Path) -> None:
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
        shop = Shop(database, GuardedStore(bucket(), database), tmp_path / "unused")
        await shop.store.expect_right_store()
        await shop.add(3)
        own = dict(server.objects)
        for path in shop.root.rglob("*"):
            if path.is_file():
                own[f"here/{path.relative_to(shop.root)}"] = path.read_bytes()
        server.objects.clear()
        server.objects.update(own)
        assert (await shop.sweep()).missing_count == 0
        for others, reason in (
            ({}, "STORE_AWAY"),
            ({f"here/{MARKER}": b"2" * 32, "here/stems/x/y/z": b"t"}, "STORE_WRONG"),
        ):
            server.objects.clear()
            server.objects.update(others)
            shop.store = GuardedStore(bucket(), database)
            assert await shop.refusal() == reason
            with pytest.raises(UnavailableError):
                await shop.store.put("originals/new", b"ours")
            assert server.objects == others
            assert await shop.records() == (3, 3)
        half = {key: content for key, content in own.items() if "originals" not in key}
        server.objects.clear()
        server.objects.update(half)
        shop.store = GuardedStore(bucket(), database)
        report = await shop.sweep()
        assert (bool(report.held_back), report.missing_count) == (True, 3)
        assert server.objects == half
        server.objects.update(own)
        assert (await shop.sweep()).missing_count == 0
        assert server.objects == own
    await runner.cleanup()


async def test_what_a_user_removes_for_good_stays_while_the_store_is_away(
    acquiring: Acquiring, tmp_path: Path, song: Path
) -> None:
    track = await acquiring.upload("anna", song)
    kept = await acquiring.keys()
    root = acquiring.objects._root
    assert root is not None
    await acquiring.user_tracks.remove("anna", track.id, for_good=True)
    root.rename(tmp_path / "away")
    root.mkdir()
    with pytest.raises(UnavailableError) as refused:
        await acquiring.trash.empty()
    assert refused.value.reason == "STORE_AWAY"
    assert await acquiring.library.track(track.id) is not None
    with pytest.raises(UnavailableError):
        await acquiring.upload("anna", song)
    assert list(root.iterdir()) == [], "nothing is written into the mount point"
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert await acquiring.keys() == kept
    assert await acquiring.trash.empty() == 1
    assert await acquiring.keys() == []


async def test_an_upload_waits_for_a_store_that_is_away(shop: Shop, tmp_path: Path) -> None:
    await shop.store.expect_right_store()
    uploads = Uploads(shop.database, shop.store, DAY, Reservations(shop.database, 0))
    upload = await uploads.create("anna", "song.wav", 9, None, "")
    finished: list[bytes] = []

    async def finish(_upload: object, content: AsyncIterator[bytes]) -> tuple[str, str]:
        finished.append(b"".join([piece async for piece in content]))
        return "track", "job"

    upload = await uploads.append("anna", upload.id, 0, chunks(b"12345"), finish)
    assert upload.offset_bytes == 5

    def go_away() -> None:
        shop.root.rename(tmp_path / "away")
        shop.root.mkdir()

    async def while_it_goes() -> AsyncIterator[bytes]:
        go_away()
        yield b"6789"

    with pytest.raises(UnavailableError):
        await uploads.append("anna", upload.id, 5, while_it_goes(), finish)
    with pytest.raises(UnavailableError):
        await uploads.append("anna", upload.id, 5, chunks(b"6789"), finish)
    with pytest.raises(UnavailableError):
        await uploads.forget_expired()
    shop.root.rmdir()
    (tmp_path / "away").rename(shop.root)
    upload = await uploads.append("anna", upload.id, 5, chunks(b"6789"), finish)
    assert (finished, upload.track_id) == ([b"123456789"], "track")


async def test_readiness_says_why(shop: Shop) -> None:
    health = await HealthServer.start("127.0.0.1:0")
    health.ready, health.problem = True, shop.store.problem

    async def ask() -> tuple[int, str]:
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{health.port}/readyz") as answer:
            return answer.status, await answer.text()

    assert await ask() == (200, "ready\n")
    marker = (shop.root / MARKER).read_bytes()
    (shop.root / MARKER).unlink()
    status, text = await ask()
    assert (status, "STORE_AWAY" in text) == (503, True)
    write(shop.root / MARKER, marker)
    assert await ask() == (200, "ready\n")
    await health.stop()


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.wav", music(2))
