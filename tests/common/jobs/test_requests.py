"""Ids of requests, with both kinds of database: an id belongs to the first request that used it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.errors import AlreadyExistsError, InvalidInputError, LimitExceededError, PreconditionError
from services.common.jobs.database import JobDatabase
from services.common.jobs.queue import JobQueue
from services.common.jobs.records import JobRecord
from services.common.jobs.requests import request_digest
from services.common.jobs.tables import request_table
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2, track_pb2, upload_pb2
from stemtube.job.v1 import job_pb2
from tests.common.jobs.worker_process import make_queue
from tests.common.postgres import create_database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/jobs.sqlite"


@pytest.fixture
async def queue(url: str, tmp_path: Path) -> AsyncIterator[JobQueue]:
    queue = make_queue(url, tmp_path, slots=0)
    await queue.start()
    yield queue
    await queue.close()


async def submit(queue: JobQueue, request_id: str, digest: str, **options: Any) -> JobRecord:
    key = options.pop("key", f"key of {digest}")
    return await queue.submit("count", {}, key=key, user="anna", request_id=request_id, digest=digest, **options)


async def request(queue: JobQueue, request_id: str, digest: str, made: list[str]) -> str:
    """Acts like a service: claims the id, makes something, and submits its job."""
    async with queue.claimed(request_id, digest, "anna") as known:
        if known:
            return known.id
        await asyncio.sleep(0.01)
        made.append(digest)
        return (await submit(queue, request_id, digest)).id


def refused(outcomes: list[Any]) -> list[AlreadyExistsError]:
    return [outcome for outcome in outcomes if isinstance(outcome, AlreadyExistsError)]


async def test_the_same_request_gets_the_same_answer_and_another_one_is_refused(queue: JobQueue) -> None:
    made: list[str] = []
    first = await request(queue, "anna:1", "a", made)
    assert await request(queue, "anna:1", "a", made) == first
    with pytest.raises(AlreadyExistsError) as error:
        await request(queue, "anna:1", "b", made)
    assert error.value.reason == "REQUEST_ID_REUSED"
    assert made == ["a"]
    with pytest.raises(AlreadyExistsError):
        await submit(queue, "anna:1", "b")
    # The service makes ids of different users different.
    assert await request(queue, "ben:1", "b", made) != first
    assert len(await queue.jobs_of("anna")) == 2


async def test_only_one_of_different_simultaneous_requests_has_an_effect(queue: JobQueue) -> None:
    for attempt in range(5):
        made: list[str] = []
        calls = [request(queue, f"anna:{attempt}", f"{attempt}-{digest}", made) for digest in range(8)]
        outcomes: list[Any] = list(await asyncio.gather(*calls, return_exceptions=True))
        assert len(refused(outcomes)) == 7
        assert len(made) == 1


async def test_equal_simultaneous_requests_get_the_same_answer(queue: JobQueue) -> None:
    outcomes = await asyncio.gather(*(request(queue, "anna:1", "a", []) for _ in range(8)))
    assert len(set(outcomes)) == 1
    assert len(await queue.jobs_of("anna")) == 1


async def test_only_one_of_different_requests_wins_even_without_a_claim(queue: JobQueue) -> None:
    calls = [submit(queue, "anna:1", str(number)) for number in range(8)]
    outcomes: list[Any] = list(await asyncio.gather(*calls, return_exceptions=True))
    assert len(refused(outcomes)) == 7
    assert len(await queue.jobs_of("anna")) == 1


async def test_a_failed_request_frees_its_id_when_no_equal_one_is_open(queue: JobQueue) -> None:
    with pytest.raises(InvalidInputError):
        async with queue.claimed("anna:1", "a", "anna"):
            raise InvalidInputError("no such model")
    async with queue.claimed("anna:1", "b", "anna") as known:
        assert known is None
        with pytest.raises(InvalidInputError):
            async with queue.claimed("anna:1", "b", "anna"):
                raise InvalidInputError("no such model")
        with pytest.raises(AlreadyExistsError):
            await request(queue, "anna:1", "c", [])
        job = await submit(queue, "anna:1", "b")
    assert await request(queue, "anna:1", "b", []) == job.id


async def test_content_after_a_request_is_part_of_its_digest(queue: JobQueue) -> None:
    async with queue.claimed("anna:1", "a", "anna"):
        await queue.add_content("anna:1", "a", "one")
        await queue.add_content("anna:1", "a", "one")
        with pytest.raises(AlreadyExistsError):
            await queue.add_content("anna:1", "a", "two")
        job = await submit(queue, "anna:1", "a.one")
    async with queue.claimed("anna:1", "a", "anna") as known:
        assert known is not None
        assert known.id == job.id
        with pytest.raises(AlreadyExistsError):
            await queue.add_content("anna:1", "a", "two")


async def test_a_request_id_of_an_earlier_version_is_accepted(queue: JobQueue, url: str) -> None:
    job = await submit(queue, "anna:1", "")
    database = JobDatabase(url)
    with database.engine.begin() as connection:
        kept = connection.execute(sa.select(request_table.c.digest)).scalar_one()
    database.close()
    assert kept is None
    assert await request(queue, "anna:1", "b", []) == job.id
    assert (await submit(queue, "anna:1", "c")).id == job.id
    async with queue.claimed("anna:1", "a", "anna"):
        await queue.add_content("anna:1", "a", "one")


async def test_a_request_that_was_withdrawn_is_not_claimed(queue: JobQueue) -> None:
    await queue.cancel_request("anna:1")
    with pytest.raises(PreconditionError) as error:
        await request(queue, "anna:1", "a", [])
    assert error.value.reason == "WITHDRAWN"
    with pytest.raises(PreconditionError):
        await submit(queue, "anna:1", "a")


async def test_old_claims_and_withdrawals_without_a_job_are_deleted(url: str, tmp_path: Path) -> None:
    queue = make_queue(url, tmp_path, slots=0, keep_seconds=1)
    await queue.start()
    claim = queue.claimed("anna:1", "a", "anna")
    await claim.__aenter__()  # never released, as if the process had died
    await queue.cancel_request("anna:2")
    job = await submit(queue, "anna:3", "a")
    database = JobDatabase(url)

    def ids() -> list[str]:
        with database.engine.begin() as connection:
            return list(connection.execute(sa.select(request_table.c.request_id)).scalars())

    async with asyncio.timeout(30):
        while await asyncio.to_thread(ids) != ["anna:3"]:
            await asyncio.sleep(0.1)
    assert (await queue.get(job.id)).state == "queued"
    await claim.__aexit__(None, None, None)
    database.close()
    await queue.close()


def test_a_digest_covers_everything_except_the_request_id() -> None:
    link = track_pb2.CreateTrackRequest(request_id="1", url="https://a.example/song")
    assert request_digest(link) == request_digest(track_pb2.CreateTrackRequest(request_id="2", url=link.url))
    others = [
        track_pb2.CreateTrackRequest(url=link.url + "?"),
        track_pb2.CreateTrackRequest(
            url=link.url, options=track_job_pb2.ProcessingOptions(priority=job_pb2.PRIORITY_BATCH)
        ),
        track_pb2.CreateTrackRequest(
            url=link.url,
            options=track_job_pb2.ProcessingOptions(
                analyses=[track_job_pb2.AnalysisChoice(part=analysis_pb2.PART_KEY)]
            ),
        ),
        track_pb2.ProcessTrackRequest(),
        upload_pb2.UploadHeader(),
    ]
    assert len({request_digest(other) for other in (link, *others)}) == len(others) + 1


async def test_simultaneous_jobs_of_a_user_do_not_exceed_the_limit(queue: JobQueue, url: str, tmp_path: Path) -> None:
    other_process = make_queue(url, tmp_path, slots=0)
    await other_process.start()
    queues = (queue, other_process)
    calls = [submit(queues[number % 2], f"anna:{number}", f"{number}", most_unfinished=3) for number in range(12)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, LimitExceededError)]
    assert {(error.reason, error.metadata["retry_after_seconds"]) for error in errors} == {("TOO_MANY_JOBS", "60")}
    assert len(errors) == 9
    first, *_ = accepted = await queue.unfinished("anna")
    assert len(accepted) == 3
    # Joining a present job is always allowed.
    assert (await submit(queue, "anna:again", "a", key=first.key, most_unfinished=3)).id == first.id
    assert (await queue.submit("count", {}, key="ben's", user="ben", most_unfinished=3)).state == "queued"
    await queue.cancel(first.id)
    assert (await submit(queue, "anna:later", "later", most_unfinished=3)).state == "queued"
    await other_process.close()
