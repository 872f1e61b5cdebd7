"""Links that cannot be fetched, are tried again, or are wanted by several users."""

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
from tests.download.conftest import RunningLibrary
from tests.download.site import Site


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.flac", music(3, seed=5))


@pytest.fixture
def soon(library: RunningLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are tried again once, without a delay."""
    retry_by(library.jobs, monkeypatch, retries=1, first_delay_seconds=0.01)


@pytest.mark.long
@pytest.mark.parametrize("fetch_seconds", [20.0])
@pytest.mark.usefixtures("soon")
async def test_a_site_that_hangs_once_is_asked_again(library: RunningLibrary, site: Site, song: Path) -> None:
    site.hanging = 1
    track_id, job_id = await library.add_link("anna", site.put(song))
    ended = await library.end_of(job_id)
    assert (ended.state, ended.error) == ("succeeded", None)
    data = await library.tracks.track(track_id, "anna")
    assert data
    assert data.track.duration_seconds == pytest.approx(3, abs=0.01)


@pytest.mark.long
@pytest.mark.parametrize("fetch_seconds", [4.0])
@pytest.mark.usefixtures("soon")
async def test_a_site_that_never_answers_fails_the_job_and_leaves_no_track(
    library: RunningLibrary, site: Site, song: Path
) -> None:
    site.hanging = 100
    track_id, job_id = await library.add_link("anna", site.put(song))
    ended = await library.end_of(job_id)
    assert ended.error
    assert (ended.state, ended.error["reason"]) == ("failed", "FETCH_TIMEOUT")
    assert await library.tracks.track(track_id) is None
    assert not await library.keys()


async def test_a_failed_fetch_of_one_user_keeps_the_track_of_another(library: RunningLibrary, site: Site) -> None:
    url = f"{site.url}/missing.flac"
    track_id, job_id = await library.add_link("anna", url)
    await library.tracks.add_link("ben", url)
    assert (await library.end_of(job_id)).state == "failed"
    assert await library.tracks.track(track_id, "anna") is None
    assert await library.tracks.track(track_id, "ben")


async def test_a_link_that_two_users_want_is_fetched_once(library: RunningLibrary, site: Site, song: Path) -> None:
    site.slow_seconds = 2.0
    url = site.put(song)
    added = [await library.add_link(user, url) for user in ("anna", "ben")]
    assert added[0][0] == added[1][0]
    for _, job_id in added:
        assert (await library.end_of(job_id)).state == "succeeded"
    assert site.sent == {"song.flac": 1}


async def test_the_first_of_two_processes_that_fetch_a_link_decides(
    library: RunningLibrary, settings: DownloadSettings, site: Site, song: Path, tmp_path: Path
) -> None:
    faster = Acquirer(settings, library.objects, library.tracks)
    taken: list[str] = []

    class SlowRepository(TrackRepository):
        """The repository of a slow process: the other one stores the track's audio first."""

        async def set_audio(
            self, track_id: str, song: SongFacts, facts: AudioFacts, *, reservation_id: str = ""
        ) -> bool:
            site.files["song.flac"] = with_soundfile(tmp_path / "other.flac", music(3, seed=6))
            taken.append(await faster.links.acquire(track_id, Requester("ben"), ignore, ignore, any_size))
            return await super().set_audio(track_id, song, facts)

    async with Database(settings.database_url) as database:
        slower = Acquirer(settings, library.objects, SlowRepository(database))
        track = await library.tracks.add_link("anna", site.put(song))
        assert [await slower.links.acquire(track.id, Requester("anna"), ignore, ignore, any_size)] == taken
        assert await library.keys() == [taken[0], taken[0].replace("originals", "peaks")]
    await faster.close()
    await slower.close()


async def any_size(_size: int) -> None:
    pass


def ignore(*_arguments: Any, **_detail: Any) -> None:
    pass


async def test_a_temporary_error_of_a_part_is_final_for_a_job_that_made_nothing(
    library: RunningLibrary, tmp_path: Path
) -> None:
    """The other service would answer a repeated request with the same failed job."""

    class Analysis:
        asked = 0

        async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
            self.asked += 1
            error = job_pb2.JobError(code=Code.ABORTED, reason="WORKER_DIED", message="The worker died.")
            return analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_FAILED, error=error))

    service = Analysis()
    library.use(service)
    track = await library.upload("anna", with_soundfile(tmp_path / "song.wav", music(2)))
    plan = make_plan(pb.ProcessingOptions(analyses=[pb.AnalysisChoice(part=analysis_pb2.PART_KEY)]))
    ended = await library.end_of(await library.start("anna", track.id, plan))
    assert ended.error
    assert (ended.state, ended.error["reason"], ended.error["retryable"]) == ("failed", "WORKER_DIED", False)
    assert service.asked == 1


async def test_a_track_without_audio_and_job_is_discarded(
    library: RunningLibrary, site: Site, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "SUBMITTING_SECONDS", 0.0)
    given_up = await library.tracks.add_link("anna", f"{site.url}/elsewhere.flac")
    site.slow_seconds = 2.0
    fetched, job_id = await library.add_link("anna", site.put(song))
    await library.pipeline.discard_abandoned(library.jobs)
    assert await library.tracks.track(given_up.id) is None
    assert (await library.end_of(job_id)).state == "succeeded"
    assert await library.tracks.track(fetched)


async def test_a_track_waits_for_its_job_after_the_clock_has_jumped(library: RunningLibrary, site: Site) -> None:
    track = await library.tracks.add_link("anna", f"{site.url}/elsewhere.flac")
    async with library.tracks.database.write() as session:  # as if added before the clock jumped forward
        await session.execute(update(Track).values(create_time=datetime.now(UTC) - timedelta(days=1)))
    await library.pipeline.discard_abandoned(library.jobs)
    assert await library.tracks.track(track.id)


async def test_a_fetched_file_that_exceeds_the_quota_is_not_kept(
    library: RunningLibrary, site: Site, song: Path
) -> None:
    quota = len(await asyncio.to_thread(song.read_bytes)) - 1
    library.usage = Usage(library.tracks._database, library.objects, quota)
    library.use(None)
    track_id, job_id = await library.add_link("anna", site.put(song))
    ended = await library.end_of(job_id)
    assert ended.error
    assert (ended.state, ended.error["reason"]) == ("failed", "QUOTA_EXCEEDED")
    assert await library.tracks.track(track_id) is None
    assert await library.keys() == []
