"""The library keeps its files: when the store is away, another one, or half there, and when it comes back."""

import hashlib
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from sqlalchemy import func, select, update

from services.common.errors import PreconditionError, UnavailableError
from services.common.observe.telemetry import HealthServer
from services.common.storage.database import Database, migrate
from services.common.storage.objects import ObjectStore
from services.download.tables import Access, Stem, StoreIdentity, Track
from services.download.tracks.messages import track_message
from services.download.tracks.repository import Library
from services.download.upkeep.reservations import Reservations
from services.download.upkeep.store_identity import MARKER, GuardedStore
from services.download.upkeep.sweep import Report, Sweeper
from services.download.upkeep.trash import derived_key, trash_key
from services.download.upkeep.usage import Usage
from services.download.uploads.uploads import Uploads
from tests.common.audio_files import music, with_soundfile
from tests.common.s3_server import S3Server
from tests.download.conftest import Acquiring

NOW, DAY = timedelta(0), timedelta(days=1)
NEW = datetime(2026, 11, 1, tzinfo=UTC)
SIZES = pytest.mark.parametrize("count", [1, 3, 12, 1000])


@dataclass
class Shop:
    """A library in a directory that can go away, as a volume does."""

    database: Database
    store: GuardedStore
    root: Path

    @property
    def library(self) -> Library:
        return Library(self.database)

    async def add(self, count: int) -> list[str]:
        """Adds tracks with an original and a stem each; keys of the originals."""
        tracks = []
        for _ in range(count):
            content = uuid.uuid4().bytes
            track = track_of(f"originals/{hashlib.sha256(content).hexdigest()}")
            for key in (track.audio_key, stem_of(track.id).audio_key):
                write(self.root / key, content)
            tracks.append(track)
        async with self.database.write() as session:
            session.add_all(tracks)
            await session.flush()
            session.add_all(stem_of(track.id) for track in tracks)
            session.add_all(Access(user_id="anna", track_id=track.id, create_time=NEW) for track in tracks)
        return [track.audio_key for track in tracks]

    async def sweep(
        self, *, dry_run: bool = False, unneeded: timedelta = NOW, trashed: timedelta = DAY, missing: timedelta = NOW
    ) -> Report:
        sweeper = Sweeper(
            self.store,
            self.database,
            Usage(self.database, self.store, 0),
            older_than=NOW,
            stems_older_than=NOW,
            unneeded_for=unneeded,
            trashed_for=trashed,
            missing_for=missing,
        )
        return await sweeper.sweep(dry_run=dry_run)

    async def refusal(self) -> str:
        with pytest.raises((UnavailableError, PreconditionError)) as refused:
            await self.sweep()
        return refused.value.reason

    async def records(self) -> tuple[int, int]:
        """How many tracks have an original, and how many stems there are."""
        async with self.database.read() as session:
            originals = await session.scalar(select(func.count()).where(Track.audio_key != ""))
            stems = await session.scalar(select(func.count()).select_from(Stem))
        return int(originals or 0), int(stems or 0)

    async def fault(self, key: str) -> tuple[str, datetime | None]:
        """What the user is told of the track with this original."""
        async with self.database.read() as session:
            track_id = await session.scalar(select(Track.id).where(Track.audio_key == key))
        data = await self.library.track(track_id or "", "anna")
        assert data is not None
        message = track_message(data)
        if not message.HasField("fault"):
            return "", None
        return message.fault.reason, message.fault.since.ToDatetime(UTC)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


def track_of(key: str) -> Track:
    return Track(
        id=uuid.uuid4().hex,
        title="Song",
        artist="",
        source="",
        license="",
        owner_id="anna",
        content_hash=uuid.uuid4().hex,
        audio_key=key,
        peaks_key="",
        cover_key="",
        suffix="flac",
        duration_seconds=1.0,
        sample_rate_hz=44_100,
        channels=2,
        loudness_lufs=-20.0,
        create_time=NEW,
    )


def stem_of(track_id: str) -> Stem:
    return Stem(
        track_id=track_id,
        model="m",
        name="vocals",
        position=0,
        audio_key=f"stems/{track_id}/a/vocals.flac",
        peaks_key="",
        duration_seconds=1.0,
        sample_rate_hz=44_100,
        silent=False,
        gain=1.0,
        made_by={},
    )


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    url = f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    root = tmp_path / "objects"
    async with Database(url) as database:
        yield Shop(database, GuardedStore(ObjectStore.from_url(str(root)), database), root)


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
    assert "STORE_AWAY" in await shop.store.check.problem()
    assert shop.files() == set()
    assert await shop.records() == (count, count)
    shop.root.rmdir()
    elsewhere.rename(shop.root)
    assert await shop.store.check.problem() == ""
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


@SIZES
async def test_when_all_objects_are_missing_nothing_is_concluded(shop: Shop, count: int, tmp_path: Path) -> None:
    await shop.store.expect_right_store()
    keys = await shop.add(count)
    for name in ("originals", "stems"):
        (shop.root / name).rename(tmp_path / name)
    write(shop.root / "originals" / "orphan", b"stays, too")
    for _start in range(2):
        assert await shop.refusal() == "STORE_SUSPECT"
    assert await shop.records() == (count, count)
    assert "originals/orphan" in shop.files()
    shutil.rmtree(shop.root / "originals")
    for name in ("originals", "stems"):
        (tmp_path / name).rename(shop.root / name)
    assert (await shop.sweep()).missing_count == 0
    assert await shop.fault(keys[0]) == ("", None)


@pytest.mark.parametrize("count", [2, 3, 12, 1000])
async def test_while_half_is_missing_it_is_marked_and_nothing_is_removed(
    shop: Shop, count: int, tmp_path: Path
) -> None:
    await shop.store.expect_right_store()
    keys = await shop.add(count)
    gone = keys[: (count + 1) // 2]
    stems = sorted((shop.root / "stems").iterdir())[: len(gone)]
    for path in (*(shop.root / key for key in gone), *stems):
        (tmp_path / "away" / path.relative_to(shop.root)).parent.mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "away" / path.relative_to(shop.root))
    write(shop.root / "originals" / "orphan", b"stays")
    report = await shop.sweep()
    assert report.held_back
    assert (report.missing_count, report.record_count, report.object_count) == (2 * len(gone), 0, 0)
    assert (await shop.fault(gone[0]))[0] == "OBJECT_MISSING"
    assert await shop.fault(keys[-1]) == ("", None)
    assert "originals/orphan" in shop.files()
    shutil.copytree(tmp_path / "away", shop.root, dirs_exist_ok=True)
    report = await shop.sweep()
    assert (report.held_back, report.missing_count, report.objects) == ("", 0, ["originals/orphan"])
    assert await shop.fault(gone[0]) == ("", None)
    assert await shop.records() == (count, count)


async def test_a_missing_file_is_told_and_its_record_kept_for_a_while(shop: Shop) -> None:
    await shop.store.expect_right_store()
    lost, *others = await shop.add(3)
    content = (shop.root / lost).read_bytes()
    (shop.root / lost).unlink()
    before = datetime.now(UTC)
    assert (await shop.sweep(dry_run=True, missing=DAY)).missing_count == 1
    assert await shop.fault(lost) == ("", None), "a dry run changes nothing"
    assert (await shop.sweep(missing=DAY)).missing_count == 1
    reason, since = await shop.fault(lost)
    assert reason == "OBJECT_MISSING"
    assert since is not None
    assert since >= before.replace(microsecond=0)
    assert (await shop.sweep(missing=DAY)).missing_count == 1
    assert await shop.fault(lost) == (reason, since), "the time is the first one"
    write(shop.root / lost, content)
    assert (await shop.sweep(missing=DAY)).missing_count == 0
    assert await shop.fault(lost) == ("", None)
    (shop.root / lost).unlink()
    assert (await shop.sweep(missing=DAY)).record_count == 0, "it is missed from now on, not from the first time on"
    assert (await shop.sweep(missing=NOW)).record_count == 1
    assert await shop.records() == (2, 3)
    assert {f"{key}" for key in others} <= shop.files()


async def test_an_original_without_a_record_waits_and_then_goes_into_the_trash(shop: Shop) -> None:
    await shop.store.expect_right_store()
    kept, lost = await shop.add(2)
    content = (shop.root / lost).read_bytes()
    write(shop.root / derived_key(lost, "mp3"), b"made of it")
    async with shop.database.write() as session:
        track = await session.scalar(select(Track).where(Track.audio_key == lost))
        assert track is not None
        record = {column.name: getattr(track, column.name) for column in Track.__table__.columns}
        await session.delete(track)
    for _sweep in range(3):  # the file is as old as a sweep asks for, and its loss is not
        assert (await shop.sweep(unneeded=DAY)).waiting_count == 2
        assert lost in shop.files()
    report = await shop.sweep(unneeded=NOW)
    assert (report.trashed_count, lost in report.objects) == (1, True)
    assert (shop.root / trash_key(lost)).read_bytes() == content
    assert lost not in shop.files()
    assert derived_key(lost, "mp3") not in shop.files()
    async with shop.database.write() as session:  # an older copy of the database is restored
        session.add(Track(**record))
    assert (await shop.sweep(dry_run=True)).restored_count == 1
    report = await shop.sweep()
    assert (report.restored_count, report.missing_count) == (1, 0)
    assert (shop.root / lost).read_bytes() == content
    assert trash_key(lost) not in shop.files()
    async with shop.database.write() as session:
        await session.delete(await session.get(Track, record["id"]))
    await shop.sweep(unneeded=NOW)
    assert (await shop.sweep(trashed=DAY)).object_count == 0
    assert (await shop.sweep(trashed=NOW)).objects == [trash_key(lost)]
    assert {key for key in shop.files() if key.startswith(("originals", "trash"))} == {kept}


async def test_an_earlier_stay_in_the_trash_does_not_count(shop: Shop) -> None:
    await shop.store.expect_right_store()
    await shop.add(1)
    key = f"originals/{'1' * 64}"
    write(shop.root / key, b"first")
    await shop.sweep()
    await shop.sweep()
    write(shop.root / key, b"again")
    await shop.sweep()
    assert (await shop.sweep(trashed=DAY)).object_count == 0
    assert trash_key(key) in shop.files()


async def test_stems_of_a_restored_database_are_not_taken_for_old_ones(shop: Shop) -> None:
    await shop.store.expect_right_store()
    await shop.add(1)
    write(shop.root / "stems/job/lease/vocals.flac", b"of a track that a restored database does not know")
    assert (await shop.sweep(unneeded=DAY)).object_count == 0
    assert (await shop.sweep(unneeded=NOW)).objects == ["stems/job/lease/vocals.flac"]
    write(shop.root / "stems/imported/0.flac", b"from another installation: nobody makes it again")
    await shop.sweep()
    assert "trash/stems/imported/0.flac" in shop.files()


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
        assert "STORE_WRONG" in await second.check.problem()
        (shop.root / MARKER).unlink()
        await shop.add(1)
        assert "STORE_NOT_EMPTY" in await second.check.problem(), "a lost database does not make a store fresh"
        assert not (shop.root / MARKER).exists()
        await second.check.settle(adopt=True)
        assert await second.check.problem() == ""


@pytest.mark.parametrize(("count", "lost", "is_taken"), [(1, 0, True), (1, 1, False), (3, 1, True), (12, 6, False)])
async def test_a_library_from_before_takes_a_store_that_holds_its_objects(
    shop: Shop, count: int, lost: int, is_taken: bool, tmp_path: Path
) -> None:
    keys = await shop.add(count)
    shutil.copytree(shop.root, tmp_path / "whole")
    for path in (*(shop.root / key for key in keys[:lost]), *sorted(shop.root.rglob("vocals.flac"))[:lost]):
        path.unlink()
    there = shop.files()
    problem = await shop.store.check.problem()
    assert (problem == "") == is_taken
    assert shop.files() - there == ({MARKER} if is_taken else set())
    if not is_taken:
        assert await shop.refusal() == "STORE_AWAY"
        shutil.copytree(tmp_path / "whole", shop.root, dirs_exist_ok=True)
        assert await shop.store.check.problem() == "", "it recovers by itself"


async def test_a_library_whose_database_was_replaced_by_one_from_before_finds_its_store(shop: Shop) -> None:
    await shop.store.expect_right_store()
    await shop.add(3)
    async with shop.database.write() as session:
        await session.delete(await session.get(StoreIdentity, 1))
    again = GuardedStore(ObjectStore.from_url(str(shop.root)), shop.database)
    marker = (shop.root / MARKER).read_text()
    assert await again.check.problem() == ""
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
        assert await again.check.problem() == ""
        assert (shop.root / MARKER).read_text() == marker


async def test_a_store_without_anything_is_not_taken_even_if_told_so(shop: Shop, tmp_path: Path) -> None:
    await shop.store.expect_right_store()
    await shop.add(2)
    shop.root.rename(tmp_path / "away")
    shop.root.mkdir()
    with pytest.raises(UnavailableError):
        await shop.store.check.settle(adopt=True)
    assert shop.files() == set()


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
    await acquiring.shelf.remove("anna", track.id, for_good=True)
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
    health.ready, health.problem = True, shop.store.check.problem

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
