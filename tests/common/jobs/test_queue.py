"""Jobs in one process that both runs and watches them, with a real SQLite file."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from services.common.errors import Code, NotFoundError, PreconditionError, UnavailableError
from services.common.jobs.heartbeat import BEAT_SECONDS
from services.common.jobs.leases import LeaseStore
from services.common.jobs.queue import JobQueue, job_key
from services.common.jobs.records import BATCH, INTERACTIVE, JobRecord
from services.common.jobs.store import JobStore
from tests.common.jobs.worker_process import make_queue


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[JobQueue]:
    queue = make_queue(f"sqlite:///{tmp_path / 'jobs.sqlite'}", tmp_path, slots=2)
    await queue.start()
    yield queue
    await queue.close()


async def end_of(queue: JobQueue, job_id: str) -> JobRecord:
    async with asyncio.timeout(30):
        return [record async for record in queue.watch(job_id)][-1]


async def wait_in_line(queue: JobQueue, tmp_path: Path, seconds: float = 20) -> None:
    """Keeps both slots busy."""
    for number in range(2):
        await queue.submit("count", {"seconds": seconds}, key=f"busy{number}", user="anna")
    async with asyncio.timeout(10):
        while not ((tmp_path / "started").exists() and len((tmp_path / "started").read_text().splitlines()) == 2):
            await asyncio.sleep(0.05)


async def test_watching_shows_the_present_state_then_changes_up_to_the_result(queue: JobQueue) -> None:
    submitted = await queue.submit("count", {"seconds": 1}, key="k", user="anna")
    seen = [record async for record in queue.watch(submitted.id)]
    assert seen[0].state == "queued"
    assert seen[-1].state == "succeeded"
    assert seen[-1].result == {"sum": 3}
    fractions = [record.fraction for record in seen]
    assert fractions == sorted(fractions)
    assert len(seen) > 5
    running = [record for record in seen if record.state == "running" and record.stage == "counting"]
    assert any(record.eta_seconds is not None and 0 < record.eta_seconds < 2 for record in running)
    late = [record async for record in queue.watch(submitted.id)]
    assert [record.state for record in late] == ["succeeded"]


async def test_the_same_request_gives_the_same_job_and_equal_work_is_joined(queue: JobQueue, tmp_path: Path) -> None:
    jobs = await asyncio.gather(
        *(queue.submit("count", {}, key="same", user=f"user{n % 7}", request_id=f"r{n}") for n in range(100))
    )
    assert len({record.id for record in jobs}) == 1
    again = await queue.submit("count", {}, key="other", user="user0", request_id="r0")
    assert again.id == jobs[0].id
    await end_of(queue, jobs[0].id)
    assert await queue.unfinished_count("user0") == 0
    kept = await queue.submit("count", {}, key="same", user="late")
    assert (kept.id, kept.state) == (jobs[0].id, "succeeded")
    assert (tmp_path / "second").read_text().splitlines() == [jobs[0].id]


async def test_an_outdated_result_is_made_again(queue: JobQueue) -> None:
    async def is_good(_record: JobRecord) -> bool:
        return False

    first = await queue.submit("count", {}, key="same", user="anna")
    await end_of(queue, first.id)
    second = await queue.submit("count", {}, key="same", user="anna", reusable=is_good)
    assert second.id != first.id
    assert (await end_of(queue, second.id)).state == "succeeded"


async def test_cancelling_the_last_request_stops_the_job(queue: JobQueue, tmp_path: Path) -> None:
    for user in ("anna", "ben"):
        job = await queue.submit("count", {"seconds": 20}, key="long", user=user, request_id=user)
    while not (tmp_path / "started").exists():
        await asyncio.sleep(0.05)
    await queue.cancel(job.id, "anna")
    assert (await queue.get(job.id)).state == "running"
    await queue.cancel(job.id, "ben")
    await queue.cancel(job.id, "ben")
    assert (await queue.get(job.id)).state == "cancelled"
    await asyncio.sleep(0.5)
    before = (await queue.get(job.id)).version
    await asyncio.sleep(1.5)
    assert (await queue.get(job.id)).version == before
    again = await queue.submit("count", {}, key="long", user="anna")
    assert again.id != job.id
    assert (await end_of(queue, again.id)).state == "succeeded"


async def test_a_queued_job_shows_its_place_and_is_cancelled_at_once(queue: JobQueue, tmp_path: Path) -> None:
    await wait_in_line(queue, tmp_path)
    assert [await queue.unfinished_count(user) for user in ("anna", "ben")] == [2, 0]
    waiting = [await queue.submit("count", {}, key=f"wait{number}", user="anna") for number in range(3)]
    assert [(await queue.get(job.id)).queue_position for job in waiting] == [1, 2, 3]
    await queue.cancel(waiting[0].id)
    assert (await queue.get(waiting[0].id)).state == "cancelled"
    assert [(await queue.get(job.id)).queue_position for job in waiting] == [0, 1, 2]
    for record in await queue.unfinished():
        await queue.cancel(record.id)


async def test_interactive_jobs_run_before_all_batch_jobs(queue: JobQueue, tmp_path: Path) -> None:
    await wait_in_line(queue, tmp_path, seconds=2)
    batch = [await queue.submit("count", {}, key=f"batch{n}", user=f"user{n}", priority=BATCH) for n in range(3)]
    urgent = await queue.submit("count", {}, key="urgent", user="anna", priority=INTERACTIVE)
    assert (await queue.get(urgent.id)).queue_position == 1
    for job in (*batch, urgent):
        await end_of(queue, job.id)
    started = [line.split()[1] for line in (tmp_path / "started").read_text().splitlines()]
    assert started.index(urgent.id) <= 3, "at most one batch job may start before it"


async def test_joining_a_job_gives_it_the_earlier_turn(queue: JobQueue, tmp_path: Path) -> None:
    await wait_in_line(queue, tmp_path)
    jobs = [await queue.submit("count", {}, key=f"a{n}", user="anna") for n in range(20)]
    batch = await queue.submit("count", {}, key="batch", user="anna", priority=BATCH)
    assert (await queue.get(jobs[-1].id)).queue_position == 20
    assert (await queue.submit("count", {}, key="a19", user="ben")).id == jobs[-1].id
    assert (await queue.get(jobs[-1].id)).queue_position <= 2
    assert (await queue.get(batch.id)).queue_position == 21
    assert (await queue.submit("count", {}, key="batch", user="cleo")).id == batch.id
    assert (await queue.get(batch.id)).queue_position <= 3
    for number in range(2):
        await queue.cancel((await queue.submit("count", {}, key=f"busy{number}", user="anna")).id)
    for job in (jobs[-1], batch):
        await end_of(queue, job.id)
    order = [line.split()[1] for line in (tmp_path / "started").read_text().splitlines()]
    assert max(order.index(jobs[-1].id), order.index(batch.id)) <= 2 + 4
    for record in await queue.unfinished():
        await queue.cancel(record.id)


async def test_a_watcher_sees_its_job_move_up(queue: JobQueue, tmp_path: Path) -> None:
    await wait_in_line(queue, tmp_path)
    watching = queue.changes(lambda record: record.key == "mine")
    following = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0.3)
    others = [await queue.submit("count", {}, key=f"o{n}", user="anna") for n in range(2)]
    mine = await queue.submit("count", {}, key="mine", user="anna")
    assert (await asyncio.wait_for(following, 5)).queue_position == 3
    await queue.cancel(others[0].id)
    assert (await asyncio.wait_for(anext(watching), 2)).queue_position == 2
    watch = queue.watch(mine.id)
    assert (await anext(watch)).queue_position == 2
    await queue.cancel(others[1].id)
    assert (await asyncio.wait_for(anext(watch), 2)).queue_position == 1
    for generator in (watch, watching):
        await generator.aclose()
    for record in await queue.unfinished():
        await queue.cancel(record.id)


async def test_a_request_that_is_withdrawn_before_it_comes_is_refused(queue: JobQueue) -> None:
    await queue.cancel_request("r1")
    await queue.cancel_request("r1")
    with pytest.raises(PreconditionError, match="withdrawn"):
        await queue.submit("count", {}, key="k", user="anna", request_id="r1")
    job = await queue.submit("count", {"seconds": 20}, key="k", user="anna", request_id="r2")
    await queue.cancel_request("r2")
    assert (await queue.get(job.id)).state == "cancelled"


async def test_a_request_during_a_cancellation_gets_a_new_job(queue: JobQueue) -> None:
    for number in range(25):
        job = await queue.submit("count", {"seconds": 9}, key=f"k{number}", user="anna", request_id=f"a{number}")
        cancelling = asyncio.create_task(queue.cancel(job.id, f"a{number}"))
        joined = await queue.submit("count", {"seconds": 9}, key=f"k{number}", user="ben", request_id=f"b{number}")
        await cancelling
        assert (await queue.get(joined.id)).state in ("queued", "running")
        await queue.cancel(joined.id)


async def test_a_job_without_a_handler_fails(queue: JobQueue) -> None:
    job = await queue.submit("unheard of", {}, key="k", user="anna")
    assert (await end_of(queue, job.id)).state == "failed"


async def test_a_removed_job_is_made_again_under_another_id(tmp_path: Path) -> None:
    """Objects are stored under a job's id; the sweep once took a former job's stems for those of a dead attempt."""
    queue = make_queue(f"sqlite:///{tmp_path / 'jobs.sqlite'}", tmp_path, slots=1, keep_seconds=1)
    await queue.start()
    first = await queue.submit("count", {"seconds": 0.1}, key="k", user="anna", request_id="r")
    await end_of(queue, first.id)
    async with asyncio.timeout(10):
        while True:
            try:
                await queue.get(first.id)
                await asyncio.sleep(0.1)
            except NotFoundError:
                break
    second = await queue.submit("count", {"seconds": 0.1}, key="k", user="anna", request_id="r")
    assert second.id != first.id
    await end_of(queue, second.id)
    await queue.close()


async def test_a_database_outage_is_reported_as_unavailable(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_arguments: Any, **_options: Any) -> None:
        raise OperationalError("SELECT 1", {}, psycopg.OperationalError("the server closed the connection"))

    with monkeypatch.context() as patched:
        patched.setattr(JobStore, "get", away)
        patched.setattr(JobStore, "submit", away)
        with pytest.raises(UnavailableError) as told:
            await queue.get("any")
        assert told.value.reason == "DATABASE_UNAVAILABLE"
        with pytest.raises(UnavailableError):
            await queue.submit("count", {}, key="k", user="anna")


async def test_transient_errors_are_tried_again_and_the_attempts_counted(queue: JobQueue) -> None:
    job = await queue.submit("flaky", {}, key="f", user="anna")
    done = await end_of(queue, job.id)
    assert (done.state, done.attempts) == ("succeeded", 3)


async def test_permanent_errors_fail_at_once_with_their_reason(queue: JobQueue, tmp_path: Path) -> None:
    job = await queue.submit("refuse", {}, key="r", user="anna")
    done = await end_of(queue, job.id)
    assert (done.state, done.attempts) == ("failed", 1)
    assert done.error == {
        "code": Code.INVALID_ARGUMENT,
        "reason": "NOT_AUDIO",
        "message": "This is no audio.",
        "retryable": False,
    }
    assert len((tmp_path / "refuse").read_text().splitlines()) == 1
    again = await queue.submit("refuse", {}, key="r", user="anna")
    assert again.id != job.id
    await end_of(queue, again.id)


async def test_a_bug_in_a_handler_reveals_nothing(queue: JobQueue) -> None:
    job = await queue.submit("fail", {}, key="x", user="anna")
    done = await end_of(queue, job.id)
    assert done.error is not None
    assert done.error["reason"] == "INTERNAL"
    assert "secret" not in str(done.error)


@pytest.mark.parametrize(
    ("kind", "level", "reason"), [("refuse", "warning", "NOT_AUDIO"), ("fail", "error", "INTERNAL")]
)
async def test_the_log_tells_why_a_job_failed(
    queue: JobQueue, capsys: pytest.CaptureFixture[str], kind: str, level: str, reason: str
) -> None:
    await end_of(queue, (await queue.submit(kind, {}, key="k", user="anna")).id)
    printed = ""
    async with asyncio.timeout(30):
        while "job failed" not in printed:
            await asyncio.sleep(0.05)
            printed += "".join(capsys.readouterr())
    (line,) = [line for line in printed.splitlines() if "job failed" in line]
    assert level in line
    assert reason in line


async def test_a_users_changes_are_delivered_and_do_not_pile_up(queue: JobQueue) -> None:
    seen: list[JobRecord] = []

    async def listen() -> None:
        async for record in queue.changes(lambda record: record.user == "anna", limit=2):
            seen.append(record)
            await asyncio.sleep(0.3)

    listener = asyncio.create_task(listen())
    await asyncio.sleep(0)
    jobs = [await queue.submit("count", {"seconds": 0.3}, key=f"a{n}", user="anna") for n in range(4)]
    await queue.submit("count", {}, key="b", user="ben")
    for job in jobs:
        await end_of(queue, job.id)
    await asyncio.sleep(1)
    listener.cancel()
    assert {record.user for record in seen} == {"anna"}
    assert len(seen) < 20
    assert seen[-1].state == "succeeded"


async def test_a_slow_write_of_an_older_report_never_overwrites_a_newer_one(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the last report of a job was sometimes lost."""
    write = LeaseStore.report

    def slow(store: LeaseStore, job_id: str, lease: str, stage: str, fraction: float, *rest: Any) -> None:
        time.sleep(0.3 if fraction < 1 else 0)
        write(store, job_id, lease, stage, fraction, *rest)

    end = LeaseStore.finish

    def late(store: LeaseStore, *arguments: Any) -> bool:
        time.sleep(0.5)
        return end(store, *arguments)

    monkeypatch.setattr(LeaseStore, "report", slow)
    monkeypatch.setattr(LeaseStore, "finish", late)
    job = await queue.submit("talk", {}, key="t", user="anna")
    assert (await end_of(queue, job.id)).detail == {"said": "last"}


async def test_a_heartbeat_while_a_job_ends_does_not_count_the_lease_as_lost(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Jobs that ended just before a heartbeat were once neither logged nor counted as ended."""
    end = LeaseStore.finish

    def answer_late(store: LeaseStore, *arguments: Any) -> bool:
        is_ended = end(store, *arguments)
        time.sleep(BEAT_SECONDS + 0.5)
        return is_ended

    monkeypatch.setattr(LeaseStore, "finish", answer_late)
    job = await queue.submit("busy", {}, key="k", user="anna")
    assert (await end_of(queue, job.id)).state == "succeeded"
    async with asyncio.timeout(30):
        while queue.busy:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.1)
    printed = "".join(capsys.readouterr())
    assert "job ended" in printed
    assert "job lease lost" not in printed


async def test_a_queue_can_be_closed_while_a_change_arrives(tmp_path: Path) -> None:
    """It sometimes hung: Python 3.11's `asyncio.wait_for` swallows a cancellation that comes with the result."""
    for ticks in range(6):
        queue = make_queue(f"sqlite:///{tmp_path / 'jobs.sqlite'}", tmp_path, slots=0)
        await queue.start()
        watching = asyncio.create_task(anext(queue.changes(lambda _record: False)))
        await asyncio.sleep(0.05)
        await queue.submit("count", {}, key=f"k{ticks}", user="anna")
        for _ in range(ticks):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await queue.close()
        watching.cancel()


async def test_jobs_of_a_user_come_newest_first_in_pages(queue: JobQueue) -> None:
    jobs = [await queue.submit("count", {}, key=f"k{n}", user="anna", subject=f"s{n % 2}") for n in range(4)]
    first = await queue.jobs_of("anna", limit=3)
    assert [record.id for record in first] == [job.id for job in reversed(jobs)][:3]
    rest = await queue.jobs_of("anna", before=(first[-1].created_at, first[-1].id))
    assert [record.id for record in rest] == [jobs[0].id]
    assert {record.id for record in await queue.jobs_of("anna", subject="s1")} == {jobs[1].id, jobs[3].id}
    assert await queue.jobs_of("ben") == []


async def test_an_unknown_job_is_not_found(queue: JobQueue) -> None:
    with pytest.raises(NotFoundError):
        await queue.get("nope")
    with pytest.raises(NotFoundError):
        await queue.cancel("nope")


def test_keys_are_equal_only_for_equal_work() -> None:
    assert job_key("a", {"x": 1, "y": 2}) == job_key("a", {"y": 2, "x": 1})
    assert job_key("a", "bc") != job_key("ab", "c")
