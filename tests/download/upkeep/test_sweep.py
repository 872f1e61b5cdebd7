"""A sweep removes unneeded objects after a delay, and nothing while many objects are missing."""

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import select

from services.download.tables import Stem, Track
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.trash import derived_key, trash_key
from services.download.upkeep.usage import Usage
from tests.download.upkeep.disk_library import DAY, NOW, DiskLibrary, write
from tests.download.upkeep.test_store_identity import SIZES


@SIZES
async def test_a_sweep_fails_if_all_objects_are_missing(disk_library: DiskLibrary, count: int, tmp_path: Path) -> None:
    await disk_library.store.expect_right_store()
    keys = await disk_library.add(count)
    for name in ("originals", "stems"):
        (disk_library.root / name).rename(tmp_path / name)
    write(disk_library.root / "originals" / "orphan", b"stays, too")
    for _start in range(2):
        assert await disk_library.refusal() == "STORE_SUSPECT"
    assert await disk_library.records() == (count, count)
    assert "originals/orphan" in disk_library.files()
    shutil.rmtree(disk_library.root / "originals")
    for name in ("originals", "stems"):
        (tmp_path / name).rename(disk_library.root / name)
    assert (await disk_library.sweep()).missing_count == 0
    assert await disk_library.fault(keys[0]) == ("", None)


@pytest.mark.parametrize("count", [2, 3, 12, 1000])
async def test_nothing_is_removed_while_half_of_the_objects_are_missing(
    disk_library: DiskLibrary, count: int, tmp_path: Path
) -> None:
    await disk_library.store.expect_right_store()
    keys = await disk_library.add(count)
    gone = keys[: (count + 1) // 2]
    stems = sorted((disk_library.root / "stems").iterdir())[: len(gone)]
    for path in (*(disk_library.root / key for key in gone), *stems):
        (tmp_path / "away" / path.relative_to(disk_library.root)).parent.mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "away" / path.relative_to(disk_library.root))
    write(disk_library.root / "originals" / "orphan", b"stays")
    report = await disk_library.sweep()
    assert report.held_back
    assert (report.missing_count, report.record_count, report.object_count) == (2 * len(gone), 0, 0)
    assert (await disk_library.fault(gone[0]))[0] == "OBJECT_MISSING"
    assert await disk_library.fault(keys[-1]) == ("", None)
    assert "originals/orphan" in disk_library.files()
    shutil.copytree(tmp_path / "away", disk_library.root, dirs_exist_ok=True)
    report = await disk_library.sweep()
    assert (report.held_back, report.missing_count, report.objects) == ("", 0, ["originals/orphan"])
    assert await disk_library.fault(gone[0]) == ("", None)
    assert await disk_library.records() == (count, count)


async def test_a_missing_file_is_reported_and_its_record_kept_for_a_while(disk_library: DiskLibrary) -> None:
    await disk_library.store.expect_right_store()
    lost, *others = await disk_library.add(3)
    content = (disk_library.root / lost).read_bytes()
    (disk_library.root / lost).unlink()
    before = datetime.now(UTC)
    assert (await disk_library.sweep(dry_run=True, missing=DAY)).missing_count == 1
    assert await disk_library.fault(lost) == ("", None), "a dry run changes nothing"
    assert (await disk_library.sweep(missing=DAY)).missing_count == 1
    reason, since = await disk_library.fault(lost)
    assert reason == "OBJECT_MISSING"
    assert since is not None
    assert since >= before.replace(microsecond=0)
    assert (await disk_library.sweep(missing=DAY)).missing_count == 1
    assert await disk_library.fault(lost) == (reason, since), "the time is the first one"
    write(disk_library.root / lost, content)
    assert (await disk_library.sweep(missing=DAY)).missing_count == 0
    assert await disk_library.fault(lost) == ("", None)
    (disk_library.root / lost).unlink()
    assert (await disk_library.sweep(missing=DAY)).record_count == 0, "the time counts from the second loss"
    assert (await disk_library.sweep(missing=NOW)).record_count == 1
    assert await disk_library.records() == (2, 3)
    assert {f"{key}" for key in others} <= disk_library.files()


async def test_an_original_without_a_record_waits_and_then_goes_into_the_trash(disk_library: DiskLibrary) -> None:
    await disk_library.store.expect_right_store()
    kept, lost = await disk_library.add(2)
    content = (disk_library.root / lost).read_bytes()
    write(disk_library.root / derived_key(lost, "mp3"), b"made of it")
    async with disk_library.database.write() as session:
        track = await session.scalar(select(Track).where(Track.audio_key == lost))
        assert track is not None
        record = {column.name: getattr(track, column.name) for column in Track.__table__.columns}
        await session.delete(track)
    for _sweep in range(3):  # the file is old enough, but has not been without a record for long enough
        assert (await disk_library.sweep(unneeded=DAY)).waiting_count == 2
        assert lost in disk_library.files()
    report = await disk_library.sweep(unneeded=NOW)
    assert (report.trashed_count, lost in report.objects) == (1, True)
    assert (disk_library.root / trash_key(lost)).read_bytes() == content
    assert lost not in disk_library.files()
    assert derived_key(lost, "mp3") not in disk_library.files()
    async with disk_library.database.write() as session:  # an older copy of the database is restored
        session.add(Track(**record))
    assert (await disk_library.sweep(dry_run=True)).restored_count == 1
    report = await disk_library.sweep()
    assert (report.restored_count, report.missing_count) == (1, 0)
    assert (disk_library.root / lost).read_bytes() == content
    assert trash_key(lost) not in disk_library.files()
    async with disk_library.database.write() as session:
        await session.delete(await session.get(Track, record["id"]))
    await disk_library.sweep(unneeded=NOW)
    assert (await disk_library.sweep(trashed=DAY)).object_count == 0
    assert (await disk_library.sweep(trashed=NOW)).objects == [trash_key(lost)]
    assert {key for key in disk_library.files() if key.startswith(("originals", "trash"))} == {kept}


async def test_everything_of_a_track_comes_back_from_the_trash(disk_library: DiskLibrary) -> None:
    """Pictures and peaks once stayed there until they were removed."""
    await disk_library.store.expect_right_store()
    _kept, original = await disk_library.add(2)
    keys = {original, "peaks/song", "covers/song", "stems/imported/song.flac", "peaks/stem"}
    for key in keys:
        write(disk_library.root / key, key.encode())
    async with disk_library.database.write() as session:
        track = await session.scalar(select(Track).where(Track.audio_key == original))
        assert track is not None
        track.peaks_key, track.cover_key = "peaks/song", "covers/song"
        stem = await session.get(Stem, (track.id, "m", "vocals"))
        assert stem is not None
        stem.audio_key, stem.peaks_key = "stems/imported/song.flac", "peaks/stem"
        await session.flush()
        records = [
            {column.name: getattr(one, column.name) for column in one.__table__.columns} for one in (track, stem)
        ]
        await session.delete(stem)
        await session.delete(track)
    await disk_library.sweep()
    assert keys <= {key.removeprefix("trash/") for key in disk_library.files() if key.startswith("trash/")}
    write(disk_library.root / "covers/song", b"come back already")
    async with disk_library.database.write() as session:
        session.add(Track(**records[0]))
        await session.flush()
        session.add(Stem(**records[1]))
    assert (await disk_library.sweep(dry_run=True)).restored_count == len(keys) - 1
    report = await disk_library.sweep()
    assert (report.restored_count, report.missing_count) == (len(keys) - 1, 0)
    assert keys <= disk_library.files()
    assert (disk_library.root / "peaks/song").read_bytes() == b"peaks/song"
    assert (disk_library.root / "covers/song").read_bytes() == b"come back already"


async def test_time_in_the_trash_counts_from_the_last_removal(disk_library: DiskLibrary) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(1)
    key = f"originals/{'1' * 64}"
    write(disk_library.root / key, b"first")
    await disk_library.sweep()
    await disk_library.sweep()
    write(disk_library.root / key, b"again")
    await disk_library.sweep()
    assert (await disk_library.sweep(trashed=DAY)).object_count == 0
    assert trash_key(key) in disk_library.files()


async def test_stems_unknown_to_a_restored_database_are_kept_for_a_while(disk_library: DiskLibrary) -> None:
    await disk_library.store.expect_right_store()
    await disk_library.add(1)
    write(disk_library.root / "stems/job/lease/vocals.flac", b"of a track that a restored database does not know")
    assert (await disk_library.sweep(unneeded=DAY)).object_count == 0
    assert (await disk_library.sweep(unneeded=NOW)).objects == ["stems/job/lease/vocals.flac"]
    write(disk_library.root / "stems/imported/0.flac", b"from another installation: nobody makes it again")
    await disk_library.sweep()
    assert "trash/stems/imported/0.flac" in disk_library.files()


async def test_a_draft_is_removed_only_after_it_was_seen_for_a_while(
    disk_library: DiskLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a clock had jumped forward, drafts of running work counted as old, and the next sweep removed them."""
    await disk_library.store.expect_right_store()
    usage = Usage(disk_library.database, disk_library.store, 0)
    sweeper = Sweeper(disk_library.store, disk_library.database, usage, older_than=DAY, stems_older_than=DAY)
    draft = disk_library.root / "uploads" / "draft"
    write(draft, b"la")
    two_days_ago = (datetime.now(UTC) - 2 * DAY).timestamp()
    os.utime(draft, (two_days_ago, two_days_ago))
    for _ in range(2):
        report = await sweeper.sweep()
        assert (report.waiting_count, report.object_count) == (1, 0)
    monkeypatch.setattr("services.download.upkeep.sweep.SETTLED_SECONDS", 0.2)
    await asyncio.sleep(0.3)
    os.utime(draft, (two_days_ago, two_days_ago + 1))
    assert (await sweeper.sweep()).object_count == 0, "it has changed since"
    await asyncio.sleep(0.3)
    assert (await sweeper.sweep()).objects == ["uploads/draft"]


async def test_a_temporarily_wrong_clock_removes_nothing(
    disk_library: DiskLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that is kept for days once expired at once: missing records, the trash, unneeded objects."""
    await disk_library.store.expect_right_store()
    lost, *_others = await disk_library.add(4)
    (disk_library.root / lost).unlink()
    unneeded, trashed = "stems/job/lease/vocals.flac", trash_key(f"originals/{'1' * 64}")
    for key in (unneeded, trashed):
        write(disk_library.root / key, b"kept for days")
    two_days_ago = (datetime.now(UTC) - 2 * DAY).timestamp()
    os.utime(disk_library.root / unneeded, (two_days_ago, two_days_ago))
    usage = Usage(disk_library.database, disk_library.store, 0)
    sweeper = Sweeper(disk_library.store, disk_library.database, usage, older_than=DAY, stems_older_than=DAY)
    monkeypatch.setattr("services.download.upkeep.sweep.SETTLED_SECONDS", 0.2)
    for _time in range(2):
        set_clock(monkeypatch, NOW)
        await sweeper.sweep()
        await asyncio.sleep(0.3)
        set_clock(monkeypatch, 40 * DAY)
        report = await sweeper.sweep()
        assert (report.record_count, report.missing_count, report.object_count) == (0, 1, 0)
    await asyncio.sleep(0.3)
    report = await sweeper.sweep()
    assert (report.record_count, report.missing_count, set(report.objects)) == (1, 0, {unneeded, trashed})


def set_clock(monkeypatch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    """Changes the wall clock of sweeps."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + ahead

    monkeypatch.setattr("services.download.upkeep.sweep.datetime", Clock)


async def test_partial_writes_of_a_killed_process_are_removed(disk_library: DiskLibrary) -> None:
    """They are not objects, so no listing showed them, and they once stayed forever."""
    await disk_library.store.expect_right_store()
    left = {"uploads/draft#1", "stems/job/lease/live/vocals/00000.flac#12"}
    for key in left:
        write(disk_library.root / key, b"half of it")
    assert set((await disk_library.sweep(dry_run=True)).objects) == left
    assert left <= disk_library.files()
    report = await disk_library.sweep()
    assert (set(report.objects), report.object_bytes) == (left, 20)
    assert not left & disk_library.files()
