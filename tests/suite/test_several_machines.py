"""Separation on several machines: an API process and two workers with one PostgreSQL, killed during a job."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.common.postgres import create_database
from tests.suite.client import Client, Json, part_of, patient_end, states, until_part
from tests.suite.running import PASSWORD, Suite

pytestmark = pytest.mark.long
WORKERS = ("separation-work", "separation-work-2")
OPTIONS = {"separations": [{"model": "spleeter_2stems", "quality": "QUALITY_BEST"}]}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    url = create_database().replace("postgresql://", "postgresql+psycopg://")
    suite = Suite(
        tmp_path_factory.mktemp("machines"),
        settings={"SEPARATION__DATABASE_URL": url, "SEPARATION__MAINTENANCE_SECONDS": 2},
    )
    try:
        suite.start("auth", "separation-serve", *WORKERS, "download", "gateway")
        yield suite
    finally:
        suite.stop()


@pytest.fixture
async def submitted(machines: Suite, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Client, Json, str]:
    """A client, a job during its separation, and its worker."""
    client = Client(machines.url)
    await client.sign_in("admin", PASSWORD)
    seed = sum(map(ord, request.node.name))
    before = {name: len(log) for name, log in _logs(machines).items()}
    added = await client.uploaded(with_soundfile(tmp_path / "song.flac", music(60, seed=seed)), OPTIONS)
    await until_part(client, added["job"]["job"]["id"], "separation", "separating")
    (worker,) = (name for name, log in _logs(machines).items() if "job started" in log[before[name] :])
    return client, added, worker


def _logs(machines: Suite) -> dict[str, str]:
    return {name: (machines.data / f"{name}.log").read_text() for name in WORKERS}


async def _check(client: Client, added: Json) -> Json:
    job = await patient_end(client, added["job"]["job"]["id"])
    assert states(job) == {"acquire": "succeeded", "separation": "succeeded"}, job
    track = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
    assert sorted(stem["name"] for stem in track["stems"]) == ["accompaniment", "vocals"]
    return job


async def test_another_worker_continues_the_separation_of_a_killed_worker(
    machines: Suite, submitted: tuple[Client, Json, str]
) -> None:
    client, added, worker = submitted
    async with client:
        await asyncio.to_thread(machines.kill, worker)
        try:
            async with asyncio.timeout(60):
                await _check(client, added)
        finally:
            await asyncio.to_thread(machines.start, worker)


async def test_watchers_do_not_notice_that_the_api_process_was_killed(
    machines: Suite, submitted: tuple[Client, Json, str]
) -> None:
    client, added, _worker = submitted
    async with client:
        following = asyncio.create_task(_check(client, added))
        await asyncio.to_thread(machines.kill, "separation-serve")
        await asyncio.to_thread(machines.start, "separation-serve")
        await following


async def test_a_frozen_worker_changes_nothing_when_it_wakes_up(
    machines: Suite, submitted: tuple[Client, Json, str]
) -> None:
    client, added, worker = submitted
    async with client:
        process = machines.processes[worker]
        process.send_signal(signal.SIGSTOP)
        try:
            await _check(client, added)
            track = (await client.get(f"/tracks/{added['track']['id']}"))["track"]
        finally:
            process.send_signal(signal.SIGCONT)
        await asyncio.sleep(4)
        assert (await client.get(f"/tracks/{added['track']['id']}"))["track"] == track
        stems = machines.data / "objects" / "stems"
        status, _, _ = await client.bytes(f"/tracks/{track['id']}/stems/spleeter_2stems/vocals")
        assert status == 200
        attempts = {path.relative_to(stems).parts[:2] for path in stems.rglob("*.flac")}
        assert len(attempts) == len({job for job, _ in attempts}), "the frozen worker's stems stayed beside the other's"


async def test_a_stopping_worker_hands_its_separation_over(
    machines: Suite, submitted: tuple[Client, Json, str]
) -> None:
    client, added, worker = submitted
    async with client:
        process = machines.processes[worker]
        process.send_signal(signal.SIGTERM)
        try:
            job = await _check(client, added)
            assert await asyncio.to_thread(process.wait, 15) == 0
        finally:
            await asyncio.to_thread(machines.start, worker)
        assert part_of(job, "separation")["state"] == "JOB_STATE_SUCCEEDED"
