"""What operators rely on: data go when nobody needs them and not before, orphans are found both ways, quotas hold."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import LimitExceededError, PreconditionError
from services.common.jobs.queue import JobQueue
from services.common.storage.database import Database
from services.download.config import DownloadSettings
from services.download.tracks.repository import AudioFacts, SongFacts
from services.download.upkeep.cleanup import KIND, Cleanup, cleanup_message, get_cleanup, start_cleanup
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.trash import Trash
from services.download.upkeep.usage import Usage
from tests.common.audio_files import music, with_soundfile
from tests.download.conftest import Acquiring

NOW, HOUR = timedelta(0), timedelta(hours=1)


def facts_of(name: str) -> AudioFacts:
    return AudioFacts(f"originals/{name}", f"peaks/{name}", "", name, "flac", 1.0, 44_100, 2, -20.0)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.wav", music(2))


def sweeper(acquiring: Acquiring, database: Database, age: timedelta = NOW) -> Sweeper:
    usage = Usage(database, acquiring.objects, 0)
    waits = {"unneeded_for": age, "missing_for": age}
    return Sweeper(acquiring.objects, database, usage, older_than=age, stems_older_than=age, **waits)


async def keep_stem(acquiring: Acquiring, track_id: str, content: bytes = b"12345") -> str:
    key = f"stems/{track_id}/a/vocals.flac"
    await acquiring.objects.put(key, content)
    await acquiring.objects.put(f"{key}.peaks", b"123")
    facts: dict[str, Any] = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
    stem = {"name": "vocals", "audio_key": key, "peaks_key": f"{key}.peaks", **facts}
    await acquiring.library.set_stems(track_id, "m", [stem], {})
    return key


async def test_a_removed_track_stays_while_a_job_is_at_work_on_it(
    acquiring: Acquiring, song: Path, tmp_path: Path
) -> None:
    track = await acquiring.upload("anna", song)
    waiting = JobQueue(f"sqlite:///{tmp_path}/jobs.sqlite", "no-worker")  # nobody takes its jobs
    await waiting.start()
    try:
        job = await waiting.submit("track", {}, key="k", user="anna", subject=track.id)
        trash = Trash(acquiring.library, acquiring.user_tracks, acquiring.remover, waiting)
        await acquiring.user_tracks.remove("anna", track.id, for_good=True)
        assert await trash.empty() == 0
        assert await acquiring.keys() == [track.audio_key, track.peaks_key]
        await waiting.cancel(job.id)
        assert await trash.empty() == 1
        assert await acquiring.keys() == []
    finally:
        await waiting.close()


async def test_a_removed_track_survives_a_clock_that_is_wrong_for_a_while(
    acquiring: Acquiring, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = await acquiring.upload("anna", song)
    await acquiring.user_tracks.remove("anna", track.id)
    right = acquiring.user_tracks.removed_before
    monkeypatch.setattr("services.download.upkeep.trash.SETTLED_SECONDS", 0.2)
    assert await acquiring.trash.empty() == 0
    for _time in range(2):
        monkeypatch.setattr(acquiring.user_tracks, "removed_before", lambda: right() + timedelta(days=40))
        assert await acquiring.trash.empty() == 0
        await asyncio.sleep(0.3)
        monkeypatch.setattr(acquiring.user_tracks, "removed_before", right)
        assert await acquiring.trash.empty() == 0
    await acquiring.user_tracks.restore("anna", track.id)
    await acquiring.user_tracks.remove("anna", track.id)
    monkeypatch.setattr(acquiring.user_tracks, "removed_before", lambda: right() + timedelta(days=40))
    assert await acquiring.trash.empty() == 0
    await asyncio.sleep(0.3)
    assert await acquiring.trash.empty() == 1
    assert await acquiring.keys() == []


async def test_a_removed_track_keeps_its_objects_through_its_grace(
    acquiring: Acquiring, settings: DownloadSettings, song: Path
) -> None:
    track = await acquiring.upload("anna", song)
    await acquiring.user_tracks.remove("anna", track.id)
    assert await acquiring.trash.empty() == 0
    async with Database(settings.database_url) as database:
        assert (await sweeper(acquiring, database).sweep()).object_count == 0
    assert await acquiring.keys() == [track.audio_key, track.peaks_key]
    again = await acquiring.upload("anna", song)
    assert again.id == track.id
    assert (await acquiring.user_tracks.expired()) == {}


async def test_records_whose_objects_are_gone_are_found_and_taken_back(
    acquiring: Acquiring, settings: DownloadSettings, song: Path
) -> None:
    track = await acquiring.upload("anna", song)
    stem_key = await keep_stem(acquiring, track.id)
    for number in range(3):
        other = await acquiring.library.add_upload("ben", SongFacts("Other", ""), facts_of(str(number)))
        await acquiring.objects.put(other[0].audio_key, b"other")
    await acquiring.objects.delete(stem_key)
    await acquiring.objects.delete(track.audio_key)
    async with Database(settings.database_url) as database:
        assert (await sweeper(acquiring, database, HOUR).sweep()).missing_count == 2
        found = await sweeper(acquiring, database).sweep(dry_run=True)
        assert (found.record_count, found.object_count) == (2, 0)
        assert sorted(found.records) == sorted([f"{track.id} {stem_key}", f"{track.id} {track.audio_key}"])
        assert (await sweeper(acquiring, database).sweep(dry_run=True)).record_count == 2, "a dry run changes nothing"
        assert (await sweeper(acquiring, database).sweep()).record_count == 2
        assert (await sweeper(acquiring, database).sweep()).record_count == 0
    data = await acquiring.library.track(track.id, "anna")
    assert data is not None
    assert (data.stems, data.track.audio_key, data.track.duration_seconds) == ([], "", 2.0)
    await acquiring.library.discard_unfetched("anna", track.id)
    assert await acquiring.library.unfetched() == []
    assert (await acquiring.upload("anna", song)).audio_key == track.audio_key, "the same file repairs the track"
    assert track.audio_key in await acquiring.keys()


@pytest.mark.parametrize("count", [1, 3, 12])
async def test_a_store_that_is_not_the_right_one_is_left_alone(
    acquiring: Acquiring, settings: DownloadSettings, count: int
) -> None:
    """Further sizes, and stores that are away, others or half there, are in `test_store.py`."""
    tracks = [
        (await acquiring.library.add_upload("anna", SongFacts("Song", ""), facts_of(str(n))))[0] for n in range(count)
    ]
    await acquiring.objects.put("originals/orphan", b"stays as well")
    async with Database(settings.database_url) as database:
        for _start in range(2):
            with pytest.raises(PreconditionError) as refused:
                await sweeper(acquiring, database).sweep()
            assert refused.value.reason == "STORE_SUSPECT"
    assert await acquiring.keys() == ["originals/orphan"]
    for track in tracks:
        data = await acquiring.library.track(track.id)
        assert data is not None
        assert data.track.audio_key


async def test_a_cleanup_is_a_job_with_a_report(acquiring: Acquiring, settings: DownloadSettings, song: Path) -> None:
    track = await acquiring.upload("anna", song)
    await acquiring.objects.put("originals/lost", b"12345")
    async with Database(settings.database_url) as database:
        cleanup = Cleanup(sweeper(acquiring, database), acquiring.trash, acquiring.user_tracks)
        jobs = acquiring.jobs
        jobs._worker._handlers = {KIND: cleanup.handle}
        for dry_run in (True, False):
            started = await start_cleanup(jobs, dry_run=dry_run)
            await acquiring.end_of(started.id)
            report = cleanup_message(await get_cleanup(jobs, started.id)).report
            assert (report.object_count, report.object_bytes, list(report.objects)) == (1, 5, ["originals/lost"])
            assert ("originals/lost" in await acquiring.keys()) == dry_run
        again = await start_cleanup(jobs, dry_run=False)
        await acquiring.end_of(again.id)
        assert cleanup_message(await get_cleanup(jobs, again.id)).report.object_count == 0
        kinds = {
            kind.prefix: kind.object_count
            for kind in (await Usage(database, acquiring.objects, 0).statistics()).storage
        }
    assert kinds == {"originals": 1, "peaks": 1, "covers": 0, "stems": 0, "uploads": 0, "derived": 0, "trash": 1}
    assert track.audio_key in await acquiring.keys()


async def test_what_a_user_takes_is_measured_and_limited(
    acquiring: Acquiring, settings: DownloadSettings, song: Path
) -> None:
    track, his = await acquiring.upload("anna", song), await acquiring.upload("ben", song)
    assert his.audio_key == track.audio_key
    sizes = {info.key: info.size async for info in acquiring.objects.list()}
    own = sizes[track.audio_key] + sizes[track.peaks_key]
    async with Database(settings.database_url) as database:
        usage = Usage(database, acquiring.objects, own + 100)
        for user in ("anna", "ben"):
            assert (await usage.of(user)).used_bytes == own
        await keep_stem(acquiring, track.id)
        assert (await usage.of("anna")).used_bytes == own + 8
        await keep_stem(acquiring, track.id, b"1234567890")
        assert (await usage.of("anna")).used_bytes == own + 13
        await usage.expect_room("anna", 87)
        with pytest.raises(LimitExceededError) as full:
            await usage.expect_room("anna", 88)
        assert full.value.reason == "QUOTA_EXCEEDED"
        await acquiring.user_tracks.remove("anna", track.id)
        assert (await usage.of("anna")).used_bytes == own + 13, "it can be restored"
        await acquiring.user_tracks.remove("anna", track.id, for_good=True)
        await acquiring.trash.empty()
        assert (await usage.of("anna")).used_bytes == 0
        assert (await usage.of("ben")).used_bytes == own
        await Usage(database, acquiring.objects, 0).expect_room("ben", 10**15)


async def test_a_user_may_have_another_quota_than_the_rest(
    acquiring: Acquiring, settings: DownloadSettings, song: Path
) -> None:
    track = await acquiring.upload("anna", song)
    await keep_stem(acquiring, track.id)
    async with Database(settings.database_url) as database:
        usage = Usage(database, acquiring.objects, 1)
        for user in ("anna", "ben"):
            with pytest.raises(LimitExceededError):
                await usage.expect_room(user, 10**6)
        await usage.set_quota("anna", 0)
        await usage.set_quota("ben", 10**6)
        await usage.expect_room("anna", 10**15)
        await usage.expect_room("ben", 10**6)
        with pytest.raises(LimitExceededError):
            await usage.expect_room("ben", 10**6 + 1)
        await usage.measure_all()
        uses = await usage.of_all()
        assert uses == {"anna": await usage.of("anna"), "ben": await usage.of("ben")}
        assert (uses["anna"].quota_bytes, uses["ben"].quota_bytes) == (0, 10**6)
        assert uses["anna"].used_bytes > uses["ben"].used_bytes == 0
        await usage.set_quota("anna", None)
        await usage.set_quota("ben", None)
        assert (await usage.of("anna")).quota_bytes == 1
        assert list(await usage.of_all()) == ["anna"]


async def test_statistics_count_the_library(acquiring: Acquiring, settings: DownloadSettings, song: Path) -> None:
    track = await acquiring.upload("anna", song)
    gone = await acquiring.upload("ben", song)
    await keep_stem(acquiring, track.id)
    await acquiring.user_tracks.remove("ben", gone.id)
    async with Database(settings.database_url) as database:
        await sweeper(acquiring, database, HOUR).sweep()
        found = await Usage(database, acquiring.objects, 0).statistics()
    assert (found.user_count, found.track_count, found.deleted_track_count, found.stem_count) == (2, 1, 1, 1)
    assert {kind.prefix: kind.object_count for kind in found.storage}["stems"] == 2
    assert all(datetime.now(UTC) - kind.count_time < HOUR for kind in found.storage)
