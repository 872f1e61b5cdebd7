"""Several children check and convert files, so that no user waits for the files of another."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from services.common.compute.engine import WorkerDiedError
from services.common.errors import LimitExceededError
from services.download.pipeline.progress import job_parts
from services.download.tables import Track
from services.download.upkeep.trash import derived_key
from services.download.uploads.acquire import Acquirer
from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.common.held import PATIENCE_SECONDS, children, hold_children, release, send
from tests.download.conftest import RunningLibrary
from tests.download.site import Site

FILES = "download-files"
PER_USER = 2
MAY_WAIT = 16


class Uploading:
    """Uploads small files, each with different content."""

    def __init__(self, library: RunningLibrary, folder: Path) -> None:
        self._library = library
        self._folder = folder
        self._count = 0
        self.kept: list[asyncio.Task[None]] = []

    def start(self, user: str) -> asyncio.Task[Track]:
        return asyncio.create_task(self._library.upload(user, self.file()))

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        self.kept.append(asyncio.create_task(work))

    def file(self) -> Path:
        self._count += 1
        return with_soundfile(self._folder / f"{self._count}.wav", music(0.5, seed=self._count))


@pytest.fixture
def uploading(library: RunningLibrary, tmp_path: Path) -> Uploading:
    return Uploading(library, tmp_path)


async def test_files_of_one_user_do_not_delay_those_of_another(library: RunningLibrary, uploading: Uploading) -> None:
    """A file of 3 s once waited for 123 s behind four files of 30 minutes."""
    annas = [uploading.start("anna") for _ in range(4)]
    held = await hold_children(FILES, PER_USER)
    async with asyncio.timeout(PATIENCE_SECONDS):
        track = await uploading.start("ben")
        assert track.duration_seconds == pytest.approx(0.5, abs=0.01)
        key = track.audio_key or ""
        await library.acquirer.inspector.convert("ben", key, "mp3", derived_key(key, "mp3"))
        assert await library.objects.exists(derived_key(key, "mp3"))
        assert len(children(FILES)) == PER_USER + 1
        assert not any(task.done() for task in annas)
        release(*held)
        assert len({track.id for track in await asyncio.gather(*annas)}) == 4


@pytest.mark.parametrize("section", [{"file_children_per_user": 1}])
async def test_a_link_that_waits_behind_a_users_files_does_not_delay_its_other_owners(
    library: RunningLibrary, uploading: Uploading, site: Site, tmp_path: Path
) -> None:
    """It was once checked only in the turn of the user whose job fetched it, behind that user's other files."""
    upload = uploading.start("anna")
    held = await hold_children(FILES, 1)
    site.slow_seconds = 0.2
    url = site.put(with_soundfile(tmp_path / "song.flac", music(3)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, annas_link = await library.add_link("anna", url)
        while not site.sent:
            await asyncio.sleep(0.01)
        _, bens_link = await library.add_link("ben", url)
        for job_id in (bens_link, annas_link):
            assert (await library.end_of(job_id)).state == "succeeded"
        assert not upload.done()
        assert site.sent == {"song.flac": 1}
        release(*held)
        await upload
    assert not [key for key in await library.keys() if key.startswith("uploads/")]


async def test_a_delayed_conversion_does_not_delay_another_user_of_the_track(
    library: RunningLibrary, uploading: Uploading
) -> None:
    key = (await uploading.start("ben")).audio_key or ""
    await library.acquirer.close()
    acquirer: Acquirer = library.acquirer
    to = derived_key(key, "flac")
    others = [derived_key(key, name) for name in ("mp3", "wav")]
    for name, other in zip(("mp3", "wav"), others, strict=True):
        uploading.keep(acquirer.inspector.convert("anna", key, name, other))
    held = await hold_children(FILES, PER_USER)
    annas = [asyncio.create_task(acquirer.inspector.convert("anna", key, "flac", to)) for _ in range(3)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await acquirer.inspector.convert("ben", key, "flac", to)
        assert await library.objects.exists(to)
        await asyncio.gather(*annas)
        assert not await library.objects.exists(others[0])
        release(*held)
        await asyncio.gather(*uploading.kept)


async def test_equal_conversions_are_shared_and_the_first_caller_may_leave(
    library: RunningLibrary, uploading: Uploading
) -> None:
    key = (await uploading.start("ben")).audio_key or ""
    await library.acquirer.close()
    convert, to = library.acquirer.inspector.convert, derived_key(key, "flac")
    first = asyncio.create_task(convert("anna", key, "flac", to))
    held = await hold_children(FILES, 1)
    others = [asyncio.create_task(convert(user, key, "flac", to)) for user in ("anna", "ben", "eve")]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait(others, timeout=0.5)
        assert children(FILES) == held
        first.cancel()
        await asyncio.wait({first})
        assert not any(task.done() for task in others)
        release(*held)
        await asyncio.gather(*others)
    assert children(FILES) == held
    assert await library.objects.exists(to)


async def test_each_user_has_a_limited_number_of_waiting_files(uploading: Uploading) -> None:
    annas = [uploading.start("anna") for _ in range(PER_USER + MAY_WAIT + 1)]
    held = await hold_children(FILES, PER_USER)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait(annas, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = (task for task in annas if task.done())
        with pytest.raises(LimitExceededError) as refusal:
            await refused
        assert refusal.value.reason == "TOO_MANY_WAITING"
        assert int(refusal.value.metadata["retry_after_seconds"]) > 0
        await uploading.start("ben")
    for task in annas:
        task.cancel()
    release(*held)
    await asyncio.gather(*annas, return_exceptions=True)


async def test_a_cancelled_upload_frees_its_turn(library: RunningLibrary, uploading: Uploading) -> None:
    running = [uploading.start("anna") for _ in range(PER_USER)]
    held = await hold_children(FILES, PER_USER)
    waiting = uploading.start("anna")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait({waiting}, timeout=0.5)
        assert children(FILES) == held
        running[0].cancel()  # its child does not stop, and is killed
        assert (await waiting).duration_seconds > 0
    running[1].cancel()
    release(*held)
    await asyncio.gather(*running, return_exceptions=True)
    assert not [key for key in await library.keys() if key.startswith("uploads/")]


async def test_a_killed_child_fails_one_file(uploading: Uploading) -> None:
    annas = [uploading.start("anna") for _ in range(4)]
    held = await hold_children(FILES, PER_USER)
    send(held[0], signal.SIGKILL)
    release(held[1])
    async with asyncio.timeout(PATIENCE_SECONDS):
        ends = await asyncio.gather(*annas, return_exceptions=True)
    assert sum(isinstance(end, WorkerDiedError) for end in ends) == 1
    assert sum(isinstance(end, Track) for end in ends) == 3


async def test_a_fetched_file_waits_for_its_check_and_shows_it(
    library: RunningLibrary, uploading: Uploading, site: Site
) -> None:
    annas = [uploading.start("anna") for _ in range(PER_USER + MAY_WAIT)]
    held = await hold_children(FILES, PER_USER)
    _, job_id = await library.add_link("anna", site.put(uploading.file()))
    stages: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for record in library.jobs.watch(job_id):
            stages.append(job_parts(record)[0].stage)
            if stages[-1] == "waiting":
                for task in annas:
                    task.cancel()
                release(*held)
        assert record.state == "succeeded"
    assert "waiting" in stages
    await asyncio.gather(*annas, return_exceptions=True)
