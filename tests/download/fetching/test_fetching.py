"""Links whose fetching fails, is tried again, or is waited for by several users."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.common.errors import Code
from services.common.storage.database import Database
from services.download.config import DownloadSettings
from services.download.fetching.links import Requester
from services.download.pipeline import pipeline
from services.download.pipeline.plan import make_plan
from services.download.tables import Track
from services.download.tracks.repository import AudioFacts, SongFacts, TrackRepository
from services.download.upkeep.usage import Usage
from services.download.uploads.acquire import Acquirer
from songs.small_songs import music
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from tests.common.audio_files import with_soundfile
from tests.common.jobs.test_waiting import retry_by
from tests.download.conftest import Acquiring
from tests.download.site import Site


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.flac", music(3, seed=5))


@pytest.fixture
def soon(acquiring: Acquiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are tried again at once, and once only."""
    retry_by(acquiring.jobs, monkeypatch, retries=1, first_delay_seconds=0.01)


@pytest.mark.long
@pytest.mark.parametrize("fetch_seconds", [20.0])
@pytest.mark.usefixtures("soon")
async def test_a_site_that_hangs_once_is_asked_again(acquiring: Acquiring, site: Site, song: Path) -> None:
    site.hanging = 1
    track_id, job_id = await acquiring.add_link("anna", site.put(song))
    ended = await acquiring.end_of(job_id)
    assert (ended.state, ended.error) == ("succeeded", None)
    data = await acquiring.library.track(track_id, "anna")
    assert data
    assert data.track.duration_seconds == pytest.approx(3, abs=0.01)


@pytest.mark.long
@pytest.mark.parametrize("fetch_seconds", [4.0])
@pytest.mark.usefixtures("soon")
async def test_a_site_that_never_answers_ends_as_that_and_leaves_no_track(
    acquiring: Acquiring, site: Site, song: Path
) -> None:
    site.hanging = 100
    track_id, job_id = await acquiring.add_link("anna", site.put(song))
    ended = await acquiring.end_of(job_id)
    assert ended.error
    assert (ended.state, ended.error["reason"]) == ("failed", "FETCH_TIMEOUT")
    assert await acquiring.library.track(track_id) is None
    assert not await acquiring.keys()


async def test_one_users_failed_fetch_leaves_the_track_of_another(acquiring: Acquiring, site: Site) -> None:
    url = f"{site.url}/missing.flac"
    track_id, job_id = await acquiring.add_link("anna", url)
    await acquiring.library.add_link("ben", url)
    assert (await acquiring.end_of(job_id)).state == "failed"
    assert await acquiring.library.track(track_id, "anna") is None
    assert await acquiring.library.track(track_id, "ben")


async def test_a_link_that_two_users_want_is_fetched_once(acquiring: Acquiring, site: Site, song: Path) -> None:
    site.slow_seconds = 2.0
    url = site.put(song)
    added = [await acquiring.add_link(user, url) for user in ("anna", "ben")]
    assert added[0][0] == added[1][0]
    for _, job_id in added:
        assert (await acquiring.end_of(job_id)).state == "succeeded"
    assert site.sent == {"song.flac": 1}


async def test_of_two_processes_that_fetch_a_link_the_first_one_decides(
    acquiring: Acquiring, settings: DownloadSettings, site: Site, song: Path, tmp_path: Path
) -> None:
    faster = Acquirer(settings, acquiring.objects, acquiring.library)
    taken: list[str] = []

    class SlowRepository(TrackRepository):
        """That of a process which notes its audio when the other one has done so."""

        async def set_audio(
            self, track_id: str, song: SongFacts, facts: AudioFacts, *, reservation_id: str = ""
        ) -> bool:
            site.files["song.flac"] = with_soundfile(tmp_path / "other.flac", music(3, seed=6))
            taken.append(await faster.links.acquire(track_id, Requester("ben"), ignore, ignore, any_size))
            return await super().set_audio(track_id, song, facts)

    async with Database(settings.database_url) as database:
        slower = Acquirer(settings, acquiring.objects, SlowRepository(database))
        track = await acquiring.library.add_link("anna", site.put(song))
        assert [await slower.links.acquire(track.id, Requester("anna"), ignore, ignore, any_size)] == taken
        assert await acquiring.keys() == [taken[0], taken[0].replace("originals", "peaks")]
    await faster.close()
    await slower.close()


async def any_size(_size: int) -> None:
    pass


def ignore(*_arguments: Any, **_detail: Any) -> None:
    pass


async def test_a_part_that_failed_for_a_while_ends_a_job_that_made_nothing_for_good(
    acquiring: Acquiring, tmp_path: Path
) -> None:
    """Asking again with the same request ids would only get the other service's same failed job."""

    class Analysis:
        asked = 0

        async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
            self.asked += 1
            error = job_pb2.JobError(code=Code.ABORTED, reason="WORKER_DIED", message="The worker died.")
            return analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_FAILED, error=error))

    service = Analysis()
    acquiring.use(service)
    track = await acquiring.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    plan = make_plan(pb.ProcessingOptions(analyses=[pb.AnalysisChoice(part=analysis_pb2.PART_KEY)]))
    ended = await acquiring.end_of(await acquiring.start("anna", track.id, plan))
    assert ended.error
    assert (ended.state, ended.error["reason"], ended.error["retryable"]) == ("failed", "WORKER_DIED", False)
    assert service.asked == 1


async def test_a_track_whose_fetching_was_given_up_is_discarded(
    acquiring: Acquiring, site: Site, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "SUBMITTING_SECONDS", 0.0)
    given_up = await acquiring.library.add_link("anna", f"{site.url}/elsewhere.flac")
    site.slow_seconds = 2.0
    fetched, job_id = await acquiring.add_link("anna", site.put(song))
    await acquiring.pipeline.discard_given_up(acquiring.jobs)
    assert await acquiring.library.track(given_up.id) is None
    assert (await acquiring.end_of(job_id)).state == "succeeded"
    assert await acquiring.library.track(fetched)


async def test_a_track_waits_for_its_job_whatever_the_clock_says(acquiring: Acquiring, site: Site) -> None:
    track = await acquiring.library.add_link("anna", f"{site.url}/elsewhere.flac")
    async with acquiring.library.database.write() as session:  # as added before the clock went forward
        await session.execute(update(Track).values(create_time=datetime.now(UTC) - timedelta(days=1)))
    await acquiring.pipeline.discard_given_up(acquiring.jobs)
    assert await acquiring.library.track(track.id)


async def test_what_is_too_large_for_the_quota_is_not_kept_once_it_is_fetched(
    acquiring: Acquiring, site: Site, song: Path
) -> None:
    quota = len(await asyncio.to_thread(song.read_bytes)) - 1
    acquiring.usage = Usage(acquiring.library._database, acquiring.objects, quota)
    acquiring.use(None)
    track_id, job_id = await acquiring.add_link("anna", site.put(song))
    ended = await acquiring.end_of(job_id)
    assert ended.error
    assert (ended.state, ended.error["reason"]) == ("failed", "QUOTA_EXCEEDED")
    assert await acquiring.library.track(track_id) is None
    assert await acquiring.keys() == []
