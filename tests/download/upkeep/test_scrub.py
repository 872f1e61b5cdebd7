"""Originals that change on the disk are found, reported, kept, not served, and repaired by the same file."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import soundfile
import structlog

from services.common.compute.engine import Engine
from services.common.errors import PreconditionError, UnavailableError
from services.common.storage.database import Database
from services.download.config import DownloadSettings
from services.download.tables import Track
from services.download.tracks.messages import track_message
from services.download.tracks.results import expect_undamaged
from services.download.upkeep.scrub import Scrubber
from services.download.upkeep.trash import derived_key
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.download.conftest import RunningLibrary
from tests.download.pipeline.test_retry import Rpcs, rpcs, services
from tests.download.site import Site
from tests.download.upkeep.test_upkeep import sweeper

__all__ = ["rpcs", "services"]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.wav", music(2))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "other.wav", music(2, seed=5))


def scrubber(library: RunningLibrary, database: Database, again: timedelta = timedelta(0)) -> Scrubber:
    return Scrubber(library.objects, database, bytes_per_second=0, again_after=again)


def path_of(settings: DownloadSettings, track: Track) -> Path:
    return settings.data_dir / "objects" / track.audio_key


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def damage(path: Path) -> bytes:
    """Flips one bit of a file, and returns its new content."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


async def make_copy(library: RunningLibrary, track: Track) -> None:
    """Stores a copy of an original in another format, made from the present bytes of the original."""
    await library.objects.put(derived_key(track.audio_key, "mp3"), b"sound")


async def copies(library: RunningLibrary) -> list[str]:
    return [key for key in await library.keys() if key.startswith("derived/")]


async def fault_of(library: RunningLibrary, track: Track) -> str:
    data = await library.tracks.track(track.id, "anna")
    assert data is not None
    return track_message(data).fault.reason


async def test_a_damaged_original_is_reported_and_repaired_by_the_same_file(
    library: RunningLibrary, settings: DownloadSettings, song: Path, other: Path
) -> None:
    track, sound = await library.upload("anna", song), await library.upload("anna", other)
    damaged = damage(path_of(settings, track))
    await make_copy(library, track)
    await make_copy(library, sound)
    async with Database(settings.database_url) as database:
        scrub = scrubber(library, database, timedelta(days=1))
        with structlog.testing.capture_logs() as lines:
            assert await scrub.check_next()
            assert await scrub.check_next()
            assert not await scrub.check_next(), "all have been compared"
        told = [line for line in lines if line["log_level"] == "error"]
        assert [(line["key"], line["tracks"]) for line in told] == [(track.audio_key, [track.id])]
        assert (await fault_of(library, track), await fault_of(library, sound)) == ("OBJECT_DAMAGED", "")
        report = await sweeper(library, database).sweep()
        assert (report.damaged_count, report.damaged, report.object_count) == (1, [track.audio_key], 0)
        assert content_of(path_of(settings, track)) == damaged, "it is kept unchanged"
        assert await copies(library) == [derived_key(sound.audio_key, "mp3")]
        data = await library.tracks.track(track.id, "anna")
        assert data is not None
        with pytest.raises(PreconditionError) as refused:
            expect_undamaged(data, track.audio_key)
        assert refused.value.reason == "ORIGINAL_DAMAGED"
        await make_copy(library, track)  # one that was being made when the damage was found
        assert (await library.upload("anna", song)).id == track.id
        assert await copies(library) == [derived_key(sound.audio_key, "mp3")]
        assert content_of(path_of(settings, track)) == content_of(song)
        assert await fault_of(library, track) == ""
        assert (await sweeper(library, database).sweep()).damaged_count == 0


async def test_undetected_damage_is_repaired_too(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    track = await library.upload("anna", song)
    damage(path_of(settings, track))
    await make_copy(library, track)
    await library.upload("ben", song)
    assert content_of(path_of(settings, track)) == content_of(song)
    assert await copies(library) == []


async def test_a_restored_original_is_no_longer_damaged(
    library: RunningLibrary, settings: DownloadSettings, song: Path
) -> None:
    track = await library.upload("anna", song)
    damage(path_of(settings, track))
    async with Database(settings.database_url) as database:
        scrub = scrubber(library, database)
        await scrub.check_next()
        assert await fault_of(library, track) == "OBJECT_DAMAGED"
        path_of(settings, track).write_bytes(content_of(song))
        await make_copy(library, track)
        await scrub.check_next()
        assert await fault_of(library, track) == ""
        assert await copies(library) == []


async def test_nothing_is_compared_while_the_store_is_unavailable(
    library: RunningLibrary, settings: DownloadSettings, song: Path, tmp_path: Path
) -> None:
    track = await library.upload("anna", song)
    root = settings.data_dir / "objects"
    root.rename(tmp_path / "away")
    async with Database(settings.database_url) as database:
        scrub = scrubber(library, database)
        with pytest.raises(UnavailableError):
            await scrub.check_next()
        (tmp_path / "away").rename(root)
        assert await scrub.check_next()
    assert await fault_of(library, track) == ""


@pytest.mark.parametrize(("way", "changed"), [("process", False), ("create", True)])
async def test_a_damaged_original_of_a_link_is_fetched_again(
    library: RunningLibrary,
    settings: DownloadSettings,
    site: Site,
    rpcs: Rpcs,
    song: Path,
    other: Path,
    way: str,
    changed: bool,
) -> None:
    url = site.put(song)
    track_id, job_id = await library.add_link("anna", url)
    assert (await library.end_of(job_id)).state == "succeeded"
    data = await library.tracks.track(track_id)
    assert data is not None
    damage(path_of(settings, data.track))
    async with Database(settings.database_url) as database:
        await scrubber(library, database).check_next()
    assert await fault_of(library, data.track) == "OBJECT_DAMAGED"
    if changed:
        shutil.copy(other, song)
    await (rpcs.process(track_id) if way == "process" else rpcs.create(url))
    assert await fault_of(library, data.track) == ""
    data = await library.tracks.track(track_id)
    assert data is not None
    assert content_of(path_of(settings, data.track)) == content_of(song)


async def test_a_copy_made_while_its_original_is_repaired_has_the_repaired_sound(
    library: RunningLibrary, settings: DownloadSettings, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conversion has read the damaged bytes, and stores the copy after the repair."""
    track = await library.upload("anna", song)
    damage(path_of(settings, track))
    copy = derived_key(track.audio_key, "flac")
    run = Engine.run
    conversions = 0

    async def run_and_repair(engine: Engine, task: dict[str, Any], on_progress: Any) -> dict[str, Any]:
        nonlocal conversions
        result = await run(engine, task, on_progress)
        if task["do"] == "transcode":
            conversions += 1
            if conversions == 1:
                path = settings.data_dir / "objects" / copy
                stale = path.read_bytes()
                await library.upload("anna", song)
                assert await copies(library) == []
                await library.objects.put(copy, stale)
        return result

    monkeypatch.setattr(Engine, "run", run_and_repair)
    await library.acquirer.inspector.convert("anna", track.audio_key, "flac", copy)
    assert conversions == 2
    (made, _), (sound, _) = (soundfile.read(path) for path in (settings.data_dir / "objects" / copy, song))
    assert (made == sound).all()
