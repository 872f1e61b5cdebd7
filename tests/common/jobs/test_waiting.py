"""Jobs that wait in the queue: for others of their user, and for their next attempt."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.jobs import waiting
from services.common.jobs.database import JobDatabase
from services.common.jobs.messages import job_message
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import BATCH, INTERACTIVE, JobRecord
from services.common.jobs.retry import RetryPolicy
from services.common.jobs.tables import job_table
from services.common.jobs.worker import Worker
from stemtube.job.v1 import job_pb2
from tests.common.jobs.test_queue import end_of
from tests.common.jobs.worker_process import make_queue
from tests.common.postgres import create_database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path / 'jobs.sqlite'}"


@pytest.fixture
async def queue(url: str, tmp_path: Path) -> AsyncIterator[JobQueue]:
    queue = make_queue(url, tmp_path, slots=20, per_user=2)
    await queue.start()
    yield queue
    await queue.close()


def retry_by(queue: JobQueue, monkeypatch: pytest.MonkeyPatch, **rules: Any) -> None:
    """Gives a queue other rules for trying jobs again."""
    policy = RetryPolicy(**rules)
    monkeypatch.setattr(queue._worker, "_rules", replace(queue._worker._rules, retry=policy))
    monkeypatch.setattr(queue._leases, "_longest_delay_seconds", policy.longest_delay_seconds)


async def until_running(queue: JobQueue, count: int) -> list[JobRecord]:
    """Waits until `count` jobs run and all others are held back; returns the unfinished ones."""
    held = sa.select(sa.func.count()).where(job_table.c.state == "queued", job_table.c.held.is_(False))

    def ready() -> int:
        with queue._database.engine.connect() as connection:
            return int(connection.execute(held).scalar_one())

    async with asyncio.timeout(30):
        while True:
            records = await queue.unfinished()
            if sum(record.state == "running" for record in records) == count and not await asyncio.to_thread(ready):
                return records
            await asyncio.sleep(0.05)


async def until_waiting(queue: JobQueue, job_id: str) -> JobRecord:
    async with asyncio.timeout(30):
        while (record := await queue.get(job_id)).not_before is None:
            await asyncio.sleep(0.05)
    return record


async def test_a_users_running_jobs_are_limited_and_others_start_at_once(queue: JobQueue) -> None:
    mine = [await queue.submit("busy", {"seconds": 60}, key=f"a{n}", user="anna") for n in range(8)]
    await until_running(queue, 2)
    assert [(await queue.get(job.id)).queue_position for job in mine] == [0, 0, 1, 2, 3, 4, 5, 6]
    other = await queue.submit("busy", {}, key="b", user="ben")
    assert (await queue.get(other.id)).queue_position in (0, 1)
    assert (await end_of(queue, other.id)).state == "succeeded"
    assert sum(record.state == "running" for record in await queue.unfinished("anna")) == 2
    # When one ends, the next one starts.
    await queue.cancel(mine[0].id)
    await until_running(queue, 2)
    assert [(await queue.get(job.id)).state for job in mine[:4]] == ["cancelled", "running", "running", "queued"]
    # A job that is held back can be cancelled too.
    await queue.cancel(mine[3].id)
    assert [(await queue.get(job.id)).queue_position for job in mine[4:]] == [1, 2, 3, 4]
    for job in mine:
        await queue.cancel(job.id)


async def test_a_users_batch_does_not_delay_the_users_interactive_jobs(queue: JobQueue) -> None:
    for number in range(6):
        await queue.submit("busy", {"seconds": 60}, key=f"a{number}", user="anna", priority=BATCH)
    await until_running(queue, 2)
    urgent = await queue.submit("busy", {}, key="urgent", user="anna")
    assert (await end_of(queue, urgent.id)).state == "succeeded"
    for record in await queue.unfinished():
        await queue.cancel(record.id)


async def test_places_of_many_jobs_equal_the_places_of_each(url: str, tmp_path: Path) -> None:
    """In both lanes, of several users, some held back, some between two attempts."""
    queue = make_queue(url, tmp_path, slots=0)
    await queue.start()
    jobs = [
        await queue.submit("busy", {}, key=f"{user}{n}", user=user, subject=f"song {n}", priority=priority)
        for user in ("anna", "ben", "eve")
        for n, priority in enumerate([BATCH, INTERACTIVE, BATCH, INTERACTIVE, INTERACTIVE])
    ]

    def check() -> None:
        with queue._database.engine.begin() as connection:
            held = [jobs[number].id for number in (0, 1, 3, 6, 7, 8, 9)]
            connection.execute(sa.update(job_table).where(job_table.c.id.in_(held)).values(held=True))
            later = sa.update(job_table).where(job_table.c.id == jobs[11].id)
            connection.execute(later.values(not_before=queue._database.now + 600))
            singly = {job.id: number for job in jobs if (number := waiting.place(connection, job.id))}
            assert len(singly) == 14
            assert waiting.places(connection) == singly
            assert waiting.places(connection, first=3) == {key: place for key, place in singly.items() if place <= 3}
            bens = {job.id for job in jobs if job.user == "ben"}
            assert waiting.places(connection, user="ben") == {key: singly[key] for key in bens}

    await asyncio.to_thread(check)
    await queue.close()


async def test_subjects_of_unfinished_jobs_are_found(queue: JobQueue) -> None:
    mine = await queue.submit("busy", {"seconds": 60}, key="a", user="anna", subject="song 1")
    await queue.submit("busy", {"seconds": 60}, key="b", user="ben", subject="song 2")
    ended = await queue.submit("busy", {"seconds": 0}, key="c", user="eve", subject="song 3")
    await end_of(queue, ended.id)
    songs = ["song 1", "song 2", "song 3", "song 4"]
    assert await queue.subjects_in_work(songs) == {"song 1", "song 2"}
    assert await queue.subjects_in_work(songs[1:]) == {"song 2"}
    assert await queue.subjects_in_work(songs, user="anna") == {"song 1"}
    assert await queue.subjects_in_work(songs, besides=mine.id) == {"song 2"}
    assert await queue.subjects_in_work([]) == set()


async def test_forgotten_held_back_jobs_are_admitted(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens when a process dies just after one of its jobs has ended."""

    async def died(*_arguments: Any) -> None:
        pass

    monkeypatch.setattr(Worker, "admit", died)
    submitted = [await queue.submit("busy", {"seconds": 0.1}, key=f"a{n}", user="anna") for n in range(5)]
    for job in submitted:
        assert (await end_of(queue, job.id)).state == "succeeded"


async def test_a_job_waits_for_its_next_attempt_in_the_queue_and_shows_why(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    retry_by(queue, monkeypatch, first_delay_seconds=600)
    unlucky = [await queue.submit("unlucky", {}, key=f"u{n}", user="anna") for n in range(30)]
    for job in unlucky:
        told = job_message(await until_waiting(queue, job.id))
        assert (told.state, told.queue_position, told.attempts) == (job_pb2.JOB_STATE_QUEUED, 0, 1)
        assert told.last_error.message == "The other side sleeps."
        assert 300 < told.next_attempt_time.seconds - told.create_time.seconds < 900
    async with asyncio.timeout(30):
        while queue.busy:
            await asyncio.sleep(0.05)
    lucky = await queue.submit("busy", {}, key="k", user="anna")
    assert (await end_of(queue, lucky.id)).state == "succeeded"
    # One is cancelled meanwhile and does not run again; the others run when their next attempt is due.
    await queue.cancel(unlucky[0].id)
    assert (await queue.get(unlucky[0].id)).state == "cancelled"

    def make_due(database: JobDatabase) -> None:
        with database.engine.begin() as connection:
            connection.execute(sa.update(job_table).where(job_table.c.not_before.is_not(None)).values(not_before=1.0))

    await asyncio.to_thread(make_due, queue._database)
    for job in unlucky[1:]:
        async with asyncio.timeout(30):
            while (await queue.get(job.id)).attempts < 2:
                await asyncio.sleep(0.05)
    begun = (tmp_path / "unlucky").read_text().splitlines()
    assert begun.count(unlucky[0].id) == 1
    assert (await queue.get(unlucky[0].id)).state == "cancelled"


async def test_a_job_fails_after_its_last_attempt_and_the_log_says_why(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    retry_by(queue, monkeypatch, first_delay_seconds=0.01, retries=2)
    job = await queue.submit("unlucky", {}, key="u", user="anna")
    ended = await end_of(queue, job.id)
    assert ended.error
    assert (ended.state, ended.error["code"], ended.attempts) == ("failed", 14, 3)
    told = job_message(ended)
    assert not told.HasField("next_attempt_time")
    assert not told.HasField("last_error")
    printed = ""
    async with asyncio.timeout(30):
        while "job failed" not in printed:
            await asyncio.sleep(0.05)
            printed += "".join(capsys.readouterr())
    (line,) = [line for line in printed.splitlines() if "job failed" in line]
    assert "warning" in line
    assert "The other side sleeps." in line


async def test_a_clock_set_back_does_not_delay_the_next_attempt(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry_by(queue, monkeypatch, first_delay_seconds=300, retries=1)
    job = await queue.submit("unlucky", {}, key="u", user="anna")
    await until_waiting(queue, job.id)
    with queue._database.engine.begin() as connection:  # as written ten minutes later than it is now
        connection.execute(sa.update(job_table).values(not_before=job_table.c.not_before + 600))
    ended = await end_of(queue, job.id)
    assert (ended.state, ended.attempts) == ("failed", 2)
