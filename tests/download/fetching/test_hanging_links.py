"""Links that hang and services that do not answer delay only the users who asked for them."""

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from services.common.errors import UnavailableError
from services.common.jobs.records import BATCH, JobRecord
from services.download.fetching import pace
from services.download.fetching.pace import MIN_PROGRESS_BYTES, fetch_time_limits
from services.download.pipeline.pipeline import KIND
from services.download.pipeline.plan import make_plan
from services.download.pipeline.progress import job_parts
from services.download.pipeline.remote import RemoteJobs
from services.download.upkeep.cleanup import start_cleanup
from songs.small_songs import music
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2
from tests.common.audio_files import with_soundfile
from tests.common.jobs.test_waiting import retry_by
from tests.download.conftest import RunningLibrary
from tests.download.site import Site


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return with_soundfile(tmp_path / "song.flac", music(3, seed=5))


async def until(condition: Any, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not (condition() if not asyncio.iscoroutinefunction(condition) else await condition()):
            await asyncio.sleep(0.05)


async def hang(library: RunningLibrary, site: Site, user: str, count: int) -> list[str]:
    """Adds links of a user that the site never answers; returns the ids of their jobs."""
    return [(await library.add_link(user, f"{site.url}/hang-{user}-{number}.flac"))[1] for number in range(count)]


async def cancel_all(library: RunningLibrary) -> None:
    for record in await library.jobs.unfinished():
        await library.jobs.cancel(record.id)


async def test_40_hanging_links_of_a_user_delay_no_other_user(library: RunningLibrary, site: Site, song: Path) -> None:
    hanging = await hang(library, site, "anna", 40)
    await until(lambda: site.asleep == 2)
    _, fetched = await library.add_link("ben", site.put(song))
    uploaded = await library.upload("ben", song)
    ends = [fetched, await library.start("ben", uploaded.id, {"separations": [], "analyses": []})]
    ends.append((await start_cleanup(library.jobs, dry_run=True)).id)
    for job_id in ends:
        assert (await library.end_of(job_id)).state == "succeeded"
    unfinished = await library.jobs.unfinished("anna")
    assert [record.id for record in unfinished] == hanging, "the others ended only after these"
    assert sum(record.state == "running" for record in unfinished) <= 16
    waiting = [record for record in unfinished if record.state == "queued" and record.not_before is None]
    assert [record.queue_position for record in waiting] == list(range(1, len(waiting) + 1))
    await cancel_all(library)


@pytest.mark.long  # `test_turns.py` tests the order alone
@pytest.mark.parametrize("section", [{"fetches": 6}])
async def test_hanging_links_of_several_users_leave_a_turn_for_another(
    library: RunningLibrary, site: Site, song: Path
) -> None:
    hostile = [f"hostile{number}" for number in range(3)]
    for user in hostile:
        await hang(library, site, user, 10)
    await until(lambda: site.asleep >= 4)
    _, job_id = await library.add_link("ben", site.put(song))
    assert (await library.end_of(job_id)).state == "succeeded"
    assert {len(await library.jobs.unfinished(user)) for user in hostile} == {10}
    await cancel_all(library)


@pytest.mark.parametrize("section", [{"fetches_per_user": 1}])
async def test_a_link_is_fetched_in_the_turn_of_any_user_who_wants_it(
    library: RunningLibrary, site: Site, song: Path
) -> None:
    """A user who wants the same link does not wait for the turn of a user with many links."""
    await hang(library, site, "anna", 2)
    await until(lambda: site.asleep == 1)
    url = site.put(song)
    await library.add_link("anna", url)
    _, job_id = await library.add_link("ben", url)
    assert (await library.end_of(job_id)).state == "succeeded"
    await cancel_all(library)


@pytest.mark.parametrize("section", [{"fetch_stall_seconds": 4}])
@pytest.mark.parametrize("name", ["trickle.flac", "hang.flac"])
async def test_a_stalled_fetch_ends(
    library: RunningLibrary, site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry_by(library.jobs, monkeypatch, retries=0)
    track_id, job_id = await library.add_link("anna", f"{site.url}/{name}")
    ended = await library.end_of(job_id)
    assert ended.error
    assert (ended.state, ended.error["reason"]) == ("failed", "FETCH_STALLED")
    assert await library.tracks.track(track_id) is None


async def test_the_time_limit_is_extended_only_while_enough_bytes_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(step: int, count: int) -> None:
        async with fetch_time_limits(30, 0.5) as on_bytes:
            for number in range(count):
                await asyncio.to_thread(on_bytes, number * step)
                await asyncio.sleep(0.1)

    await fetch(MIN_PROGRESS_BYTES, 10)
    with pytest.raises(UnavailableError) as stalled:
        await fetch(1, 300)
    assert stalled.value.reason == "FETCH_STALLED"
    monkeypatch.setattr(pace, "MIN_PROGRESS_BYTES", 1)
    with pytest.raises(UnavailableError) as late:
        async with fetch_time_limits(0.3, 10):
            await asyncio.sleep(30)
    assert late.value.reason == "FETCH_TIMEOUT"


@pytest.mark.parametrize("section", [{"fetch_stall_seconds": 4}])
async def test_a_link_that_is_tried_again_waits_in_the_queue_and_can_be_cancelled(
    library: RunningLibrary, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry_by(library.jobs, monkeypatch, first_delay_seconds=600)
    track_id, job_id = await library.add_link("anna", f"{site.url}/hang.flac")

    async def waits() -> bool:
        return (await library.jobs.get(job_id)).not_before is not None

    await until(waits)
    record = await library.jobs.get(job_id)
    assert (record.state, record.queue_position, record.retries) == ("queued", 0, 1)
    assert record.retry_error
    assert record.retry_error["reason"] == "FETCH_STALLED"
    assert job_parts(record)[0].stage == "waiting to try again"
    await library.jobs.cancel(job_id)
    await library.pipeline.discard_unfetched(library.jobs, job_id, "anna", track_id)
    assert (await library.jobs.get(job_id)).state == "cancelled"
    assert await library.tracks.track(track_id) is None
    assert not await asyncio.to_thread(os.listdir, library.acquirer.links._partial.name)


class NoIdentity:
    async def metadata(self) -> tuple[()]:
        return ()


async def wait_for_separation(library: RunningLibrary, song: Path, users: int, each: int) -> list[JobRecord]:
    """Submits batch jobs of many users that wait for a service without an address."""
    plan = make_plan(pb.ProcessingOptions(separations=[pb.SeparationChoice(quality=separation_pb2.QUALITY_FAST)]))
    payload = {"plan": plan, "priority": int(job_pb2.PRIORITY_BATCH)}
    submitted = []
    for user in (f"user{number}" for number in range(users)):
        track = await library.upload(user, song)
        for number in range(each):
            content = payload | {"track_id": track.id}
            key = f"{user}-{number}"
            submitted.append(
                await library.jobs.submit(KIND, content, key=key, user=user, subject=track.id, priority=BATCH)
            )
    return submitted


async def test_jobs_that_wait_for_a_stopped_service_delay_no_link_and_no_cleanup(
    library: RunningLibrary, site: Site, song: Path
) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
        library.use(RemoteJobs(nowhere, nowhere, NoIdentity()))  # type: ignore[arg-type]
        submitted = await wait_for_separation(library, song, users=13, each=18)

        async def stages() -> list[str]:
            records = await library.jobs.unfinished()
            return [part.stage for record in records for part in job_parts(record) if part.name == "separation"]

        async def all_wait() -> bool:
            return (await stages()).count("waiting for the separation service") == 13 * 16

        await until(all_wait)
        _, job_id = await library.add_link("ben", site.put(song))
        cleaning = await start_cleanup(library.jobs, dry_run=True)
        assert (await library.end_of(job_id)).state == "succeeded"
        assert (await library.end_of(cleaning.id)).state == "succeeded"
        # The batch jobs of a user do not delay the user's own interactive work.
        _, job_id = await library.add_link("user0", site.put(song))
        assert (await library.end_of(job_id)).state == "succeeded"
        assert len(await library.jobs.unfinished()) == len(submitted)
        await library.jobs.stop_working()
        assert {record.state for record in await library.jobs.unfinished()} == {"queued"}
