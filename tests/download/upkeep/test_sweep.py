"""A sweep removes what no record needs, late, and nothing while much is missing."""

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
from tests.download.upkeep.shop import DAY, NOW, Shop, write
from tests.download.upkeep.test_store_identity import SIZES


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


async def test_everything_of_a_track_comes_back_from_the_trash(shop: Shop) -> None:
    """Pictures and peaks stayed there, and were removed for good in the end."""
    await shop.store.expect_right_store()
    _kept, original = await shop.add(2)
    keys = {original, "peaks/song", "covers/song", "stems/imported/song.flac", "peaks/stem"}
    for key in keys:
        write(shop.root / key, key.encode())
    async with shop.database.write() as session:
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
    await shop.sweep()
    assert keys <= {key.removeprefix("trash/") for key in shop.files() if key.startswith("trash/")}
    write(shop.root / "covers/song", b"come back already")
    async with shop.database.write() as session:
        session.add(Track(**records[0]))
        await session.flush()
        session.add(Stem(**records[1]))
    assert (await shop.sweep(dry_run=True)).restored_count == len(keys) - 1
    report = await shop.sweep()
    assert (report.restored_count, report.missing_count) == (len(keys) - 1, 0)
    assert keys <= shop.files()
    assert (shop.root / "peaks/song").read_bytes() == b"peaks/song"
    assert (shop.root / "covers/song").read_bytes() == b"come back already"


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


async def test_a_draft_is_removed_only_after_it_was_seen_for_a_while(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that went forward made drafts old that somebody was at work on, and the next sweep removed them."""
    await shop.store.expect_right_store()
    usage = Usage(shop.database, shop.store, 0)
    sweeper = Sweeper(shop.store, shop.database, usage, older_than=DAY, stems_older_than=DAY)
    draft = shop.root / "uploads" / "draft"
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


async def test_a_clock_that_is_wrong_for_a_while_drops_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is kept for days was over at once: missing records, the trash, and what no record needs."""
    await shop.store.expect_right_store()
    lost, *_others = await shop.add(4)
    (shop.root / lost).unlink()
    unneeded, trashed = "stems/job/lease/vocals.flac", trash_key(f"originals/{'1' * 64}")
    for key in (unneeded, trashed):
        write(shop.root / key, b"kept for days")
    two_days_ago = (datetime.now(UTC) - 2 * DAY).timestamp()
    os.utime(shop.root / unneeded, (two_days_ago, two_days_ago))
    usage = Usage(shop.database, shop.store, 0)
    sweeper = Sweeper(shop.store, shop.database, usage, older_than=DAY, stems_older_than=DAY)
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
    """Has sweeps see another time of day."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + ahead

    monkeypatch.setattr("services.download.upkeep.sweep.datetime", Clock)


async def test_what_a_killed_process_left_of_a_write_is_removed(shop: Shop) -> None:
    """It is no object, so no listing showed it, and it stayed for ever."""
    await shop.store.expect_right_store()
    left = {"uploads/draft#1", "stems/job/lease/live/vocals/00000.flac#12"}
    for key in left:
        write(shop.root / key, b"half of it")
    assert set((await shop.sweep(dry_run=True)).objects) == left
    assert left <= shop.files()
    report = await shop.sweep()
    assert (set(report.objects), report.object_bytes) == (left, 20)
    assert not left & shop.files()
