"""Unneeded data are removed, and only those; records without objects are found; quotas and statistics are right."""

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
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary

NOW, HOUR = timedelta(0), timedelta(hours=1)


def facts_of(name: str) -> AudioFacts:
    return AudioFacts(f"originals/{name}", f"peaks/{name}", "", name, "flac", 1.0, 44_100, 2, -20.0)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.wav", music(2))


def sweeper(library: RunningLibrary, database: Database, age: timedelta = NOW) -> Sweeper:
    usage = Usage(database, library.objects, 0)
    return Sweeper(
        library.objects, database, usage, older_than=age, stems_older_than=age, unneeded_for=age, missing_for=age
    )


async def keep_stem(library: RunningLibrary, track_id: str, content: bytes = b"12345") -> str:
    key = f"stems/{track_id}/a/vocals.flac"
    await library.objects.put(key, content)
    await library.objects.put(f"{key}.peaks", b"123")
    facts: dict[str, Any] = {"duration_seconds": 2.0, "sample_rate_hz": 44_100, "silent": False, "gain": 1.0}
    stem = {"name": "vocals", "audio_key": key, "peaks_key": f"{key}.peaks", **facts}
    await library.keep_stems(track_id, [stem])
    return key


async def test_a_removed_track_stays_while_it_has_an_unfinished_job(
    library: RunningLibrary, song: Path, tmp_path: Path
) -> None:
    track = await library.upload("anna", song)
    waiting = JobQueue(f"sqlite:///{tmp_path}/jobs.sqlite", "no-worker")  # nobody takes its jobs
    await waiting.start()
    try:
        job = await waiting.submit("track", {}, key="k", user="anna", subject=track.id)
        trash = Trash(library.tracks, library.user_tracks, library.remover, waiting)
        await library.user_tracks.remove("anna", track.id, for_good=True)
        assert await trash.empty() == 0
        assert await library.keys() == [track.audio_key, track.peaks_key]
        await waiting.cancel(job.id)
        assert await trash.empty() == 1
        assert await library.keys() == []
    finally:
        await waiting.close()


async def test_a_removed_track_survives_a_temporarily_wrong_clock(
    library: RunningLibrary, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = await library.upload("anna", song)
    await library.user_tracks.remove("anna", track.id)
    right = library.user_tracks.removed_before
    monkeypatch.setattr("services.download.upkeep.trash.SETTLED_SECONDS", 0.2)
    assert await library.trash.empty() == 0
    for _time in range(2):
        monkeypatch.setattr(library.user_tracks, "removed_before", lambda: right() + timedelta(days=40))
        assert await library.trash.empty() == 0
        await asyncio.sleep(0.3)
        monkeypatch.setattr(library.user_tracks, "removed_before", right)
        assert await library.trash.empty() == 0
    await library.user_tracks.restore("anna", track.id)
    await library.user_tracks.remove("anna", track.id)
    monkeypatch.setattr(library.user_tracks, "removed_before", lambda: right() + timedelta(days=40))
    assert await library.trash.empty() == 0
    await asyncio.sleep(0.3)
    assert await library.trash.empty() == 1
    assert await library.keys() == []


async def test_a_removed_track_keeps_its_objects_during_its_grace_period(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    track = await library.upload("anna", song)
    await library.user_tracks.remove("anna", track.id)
    assert await library.trash.empty() == 0
    async with Database(settings.database_url) as database:
        assert (await sweeper(library, database).sweep()).object_count == 0
    assert await library.keys() == [track.audio_key, track.peaks_key]
    again = await library.upload("anna", song)
    assert again.id == track.id
    assert (await library.user_tracks.expired()) == {}


async def test_records_without_objects_are_found_and_removed(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    track = await library.upload("anna", song)
    stem_key = await keep_stem(library, track.id)
    for number in range(3):
        other = await library.tracks.add_upload("ben", SongFacts("Other", ""), facts_of(str(number)))
        for key in (other[0].audio_key, other[0].peaks_key):
            await library.objects.put(key, b"other")
    await library.objects.delete(stem_key)
    await library.objects.delete(track.audio_key)
    async with Database(settings.database_url) as database:
        assert (await sweeper(library, database, HOUR).sweep()).missing_count == 2
        found = await sweeper(library, database).sweep(dry_run=True)
        assert (found.record_count, found.object_count) == (2, 0)
        assert sorted(found.records) == sorted([f"{track.id} {stem_key}", f"{track.id} {track.audio_key}"])
        assert (await sweeper(library, database).sweep(dry_run=True)).record_count == 2, "a dry run changes nothing"
        assert (await sweeper(library, database).sweep()).record_count == 2
        assert (await sweeper(library, database).sweep()).record_count == 0
    data = await library.tracks.track(track.id, "anna")
    assert data is not None
    assert (data.stems, data.track.audio_key, data.track.duration_seconds) == ([], "", 2.0)
    await library.tracks.discard_unfetched("anna", track.id)
    assert await library.tracks.unfetched() == []
    assert (await library.upload("anna", song)).audio_key == track.audio_key, "the same file repairs the track"
    assert track.audio_key in await library.keys()


@pytest.mark.parametrize("count", [1, 3, 12])
async def test_a_store_without_the_librarys_objects_is_not_changed(
    library: RunningLibrary, settings: DownloadSettings, count: int
) -> None:
    """`test_store_identity.py` and `test_sweep.py` have further sizes and states of the store."""
    tracks = [
        (await library.tracks.add_upload("anna", SongFacts("Song", ""), facts_of(str(n))))[0] for n in range(count)
    ]
    await library.objects.put("originals/orphan", b"stays as well")
    async with Database(settings.database_url) as database:
        for _start in range(2):
            with pytest.raises(PreconditionError) as refused:
                await sweeper(library, database).sweep()
            assert refused.value.reason == "STORE_SUSPECT"
    assert await library.keys() == ["originals/orphan"]
    for track in tracks:
        data = await library.tracks.track(track.id)
        assert data is not None
        assert data.track.audio_key


async def test_a_cleanup_is_a_job_with_a_report(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    track = await library.upload("anna", song)
    await library.objects.put("originals/lost", b"12345")
    async with Database(settings.database_url) as database:
        cleanup = Cleanup(sweeper(library, database), library.trash, library.user_tracks)
        jobs = library.jobs
        jobs._worker._handlers = {KIND: cleanup.handle}
        for dry_run in (True, False):
            started = await start_cleanup(jobs, dry_run=dry_run)
            await library.end_of(started.id)
            report = cleanup_message(await get_cleanup(jobs, started.id)).report
            assert (report.object_count, report.object_bytes, list(report.objects)) == (1, 5, ["originals/lost"])
            assert ("originals/lost" in await library.keys()) == dry_run
        again = await start_cleanup(jobs, dry_run=False)
        await library.end_of(again.id)
        assert cleanup_message(await get_cleanup(jobs, again.id)).report.object_count == 0
        kinds = {
            kind.prefix: kind.object_count for kind in (await Usage(database, library.objects, 0).statistics()).storage
        }
    assert kinds == {"originals": 1, "peaks": 1, "covers": 0, "stems": 0, "uploads": 0, "derived": 0, "trash": 1}
    assert track.audio_key in await library.keys()


async def test_the_storage_of_a_user_is_measured_and_limited(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    track, his = await library.upload("anna", song), await library.upload("ben", song)
    assert his.audio_key == track.audio_key
    sizes = {info.key: info.size async for info in library.objects.list()}
    own = sizes[track.audio_key] + sizes[track.peaks_key]
    async with Database(settings.database_url) as database:
        usage = Usage(database, library.objects, own + 100)
        for user in ("anna", "ben"):
            assert (await usage.of(user)).used_bytes == own
        await keep_stem(library, track.id)
        assert (await usage.of("anna")).used_bytes == own + 8
        await keep_stem(library, track.id, b"1234567890")
        assert (await usage.of("anna")).used_bytes == own + 13
        await usage.expect_room("anna", 87)
        with pytest.raises(LimitExceededError) as full:
            await usage.expect_room("anna", 88)
        assert full.value.reason == "QUOTA_EXCEEDED"
        await library.user_tracks.remove("anna", track.id)
        assert (await usage.of("anna")).used_bytes == own + 13, "it can be restored"
        await library.user_tracks.remove("anna", track.id, for_good=True)
        await library.trash.empty()
        assert (await usage.of("anna")).used_bytes == 0
        assert (await usage.of("ben")).used_bytes == own
        await Usage(database, library.objects, 0).expect_room("ben", 10**15)


async def test_a_user_can_have_an_individual_quota(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    track = await library.upload("anna", song)
    await keep_stem(library, track.id)
    async with Database(settings.database_url) as database:
        usage = Usage(database, library.objects, 1)
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


async def test_statistics_count_the_library(library: RunningLibrary, settings: DownloadSettings, song: Path) -> None:
    track = await library.upload("anna", song)
    gone = await library.upload("ben", song)
    await keep_stem(library, track.id)
    await library.user_tracks.remove("ben", gone.id)
    async with Database(settings.database_url) as database:
        await sweeper(library, database, HOUR).sweep()
        found = await Usage(database, library.objects, 0).statistics()
    assert (found.user_count, found.track_count, found.deleted_track_count, found.stem_count) == (2, 1, 1, 1)
    assert {kind.prefix: kind.object_count for kind in found.storage}["stems"] == 2
    assert all(datetime.now(UTC) - kind.count_time < HOUR for kind in found.storage)
