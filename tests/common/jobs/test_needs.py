"""Jobs wait while something that they all need is away, and failures during that time are not counted."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from services.common.errors import NotFoundError, StemTubeError, UnavailableError
from services.common.jobs import needs
from services.common.jobs.context import JobContext
from services.common.jobs.errors import KeptError, error_detail
from services.common.jobs.queue import JobQueue
from services.common.jobs.retry import RetryPolicy
from services.common.storage.marked_store import AWAY_REASONS
from services.common.storage.sqlite_faults import LOCKED, OUTAGES, outage
from tests.common.jobs.test_processes import end_of, until

ABSENCES = 5


class Store:
    """A store that goes away during jobs, with an error, and comes back."""

    def __init__(self) -> None:
        self.away = False
        self.absences = 0
        self.stays_there = False
        self.error: StemTubeError = UnavailableError("The store is away.")

    async def problem(self) -> str:
        return "The store is away." if self.away else ""

    def come_back(self) -> None:
        self.away = False

    async def read(self, job: JobContext) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            if self.absences < ABSENCES:
                self.absences += 1
                self.away = not self.stays_there
                asyncio.get_running_loop().call_later(0.2, self.come_back)
                raise self.error
            return {"song": "la la"}

        return await job.step("look", look)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(needs, "LOOK_SECONDS", 0.05)
    return Store()


@pytest.fixture
async def queue(store: Store, tmp_path: Path) -> AsyncIterator[JobQueue]:
    queue = JobQueue(
        f"sqlite:///{tmp_path / 'jobs.sqlite'}",
        "needs-test",
        handlers={"read": store.read},
        slots=1,
        retry=RetryPolicy(retries=1, first_delay_seconds=0.05),
        needs=store.problem,
    )
    await queue.start()
    yield queue
    await queue.close()


async def test_no_job_is_taken_while_the_store_is_away(queue: JobQueue, store: Store) -> None:
    store.away = True
    await until(lambda: not queue._needs.are_met)
    job = await queue.submit("read", {}, key="k", user="anna")
    await asyncio.sleep(1.0)
    assert (store.absences, (await queue.get(job.id)).state) == (0, "queued")
    store.away = False
    assert (await end_of(queue, job.id))[-1].state == "succeeded"


@pytest.mark.parametrize("error", [UnavailableError("away"), NotFoundError("gone", "NO_SUCH_OBJECT")])
async def test_an_error_while_the_store_is_away_is_not_counted(
    error: StemTubeError, queue: JobQueue, store: Store
) -> None:
    """A song was once lost if its store was away for longer than a job's few attempts."""
    store.error = error
    job = await queue.submit("read", {}, key="k", user="anna")
    end = (await end_of(queue, job.id))[-1]
    assert (end.state, end.result, store.absences) == ("succeeded", {"song": "la la"}, ABSENCES)
    assert (end.attempts, end.retries) == (1, 0)


async def test_an_error_while_the_store_is_there_is_counted(queue: JobQueue, store: Store) -> None:
    store.stays_there = True
    job = await queue.submit("read", {}, key="k", user="anna")
    assert ((await end_of(queue, job.id))[-1].state, store.absences) == ("failed", 2)


@pytest.mark.parametrize("reason", sorted({*OUTAGES, *AWAY_REASONS}))
async def test_an_attempt_without_its_database_or_store_is_not_counted(
    reason: str, queue: JobQueue, store: Store
) -> None:
    """Songs once failed because a database was locked, or a store was back before anybody looked for it."""
    store.stays_there, store.error = True, UnavailableError("It is away.", reason)
    job = await queue.submit("read", {}, key="k", user="anna")
    end = (await end_of(queue, job.id))[-1]
    assert (end.state, store.absences, end.retries) == ("succeeded", ABSENCES, 0)


async def test_a_job_fails_with_the_stored_error_of_another_service_that_had_no_database(
    queue: JobQueue, store: Store
) -> None:
    store.stays_there, store.error = True, KeptError(error_detail(outage(LOCKED, None)))
    job = await queue.submit("read", {}, key="k", user="anna")
    assert ((await end_of(queue, job.id))[-1].state, store.absences) == ("failed", 2)


async def test_a_job_ends_with_its_last_detail_although_reports_could_not_be_written(
    store: Store, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that had succeeded once showed as cancelled: the database was locked at the last report."""

    def locked(*_arguments: Any) -> None:
        raise OperationalError("UPDATE job", {}, sqlite3.OperationalError("database is locked"))

    async def tell(job: JobContext) -> dict[str, Any]:
        job.report("telling", 0.5, words="la la")
        return {}

    monkeypatch.setattr(queue._leases, "report", locked)
    monkeypatch.setitem(queue._worker._handlers, "read", tell)
    job = await queue.submit("read", {}, key="k", user="anna")
    end = (await end_of(queue, job.id))[-1]
    assert (end.state, end.detail) == ("succeeded", {"words": "la la"})
