"""Uploads in pieces: interruptions, errors at the end and expiry, which an HTTP client cannot test."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from sqlalchemy import update

from services.common.compute.fair_limiter import TOO_MANY_WAITING
from services.common.errors import (
    AbortedError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StemTubeError,
    UnavailableError,
)
from services.common.jobs.errors import too_many_jobs
from services.common.storage import spool
from services.common.storage.database import Database, migrate
from services.common.storage.objects import ObjectStore
from services.download.tables import Upload
from services.download.upkeep.reservations import Reservations
from services.download.upkeep.sweep import Sweeper
from services.download.upkeep.usage import Usage
from services.download.uploads import uploads
from services.download.uploads.uploads import Uploads
from tests.common.postgres import create_database
from tests.common.s3_server import S3Server

DAY = timedelta(days=1)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


@pytest.fixture(params=["sqlite and a directory", "postgresql and s3"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def database(place: str, tmp_path: Path) -> AsyncIterator[Database]:
    url = create_database() if place.startswith("postgresql") else f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    async with Database(url) as database:
        yield database


@pytest.fixture
async def objects(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    if not place.endswith("s3"):
        monkeypatch.setattr(spool, "BUFFER_BYTES", 1)  # all bytes wait in a file, as those of large uploads do
        yield ObjectStore.from_url(str(tmp_path / "objects"))
        return
    async with TestServer(S3Server().app()) as http:
        keys: dict[str, Any] = {"access_key_id": "id", "secret_access_key": "secret"}
        endpoint = f"http://127.0.0.1:{http.port}"
        yield ObjectStore.from_url("s3://bucket/prefix", endpoint=endpoint, region="us-east-1", **keys)


class Finishing:
    """Keeps complete files, or raises `error` if it is set."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.error: Exception | None = None

    async def __call__(self, upload: Upload, content: AsyncIterator[bytes]) -> tuple[str, str]:
        whole = b"".join([piece async for piece in content])
        if self.error:
            raise self.error
        self.files.append(whole)
        return "track", "job"


@pytest.fixture
def finishing() -> Finishing:
    return Finishing()


async def keys_of(objects: ObjectStore) -> list[str]:
    return [info.key async for info in objects.list("uploads")]


async def test_a_cancelled_call_keeps_the_bytes_that_have_arrived(
    database: Database, objects: ObjectStore, finishing: Finishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 4)
    kept = Uploads(database, objects, DAY, Reservations(database, 0))
    upload = await kept.create("ann", "a.wav", 12, None, "")
    taken = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"abcde"
        yield b"fg"
        taken.set()
        await asyncio.sleep(60)

    call = asyncio.create_task(kept.append("ann", upload.id, 0, stalling(), finishing))
    await taken.wait()
    call.cancel()
    await asyncio.wait({call})
    assert (await kept.get("ann", upload.id)).offset_bytes == 7
    done = await kept.append("ann", upload.id, 7, pieces(b"hij", b"kl"), finishing)
    assert (done.offset_bytes, done.track_id, done.job_id) == (12, "track", "job")
    assert finishing.files == [b"abcdefghijkl"]
    assert await keys_of(objects) == []


@pytest.mark.parametrize(
    "error", [UnavailableError("not now"), LimitExceededError("a queue", TOO_MANY_WAITING), too_many_jobs(3)]
)
async def test_the_last_byte_can_be_sent_again_after_a_temporary_error(
    database: Database, objects: ObjectStore, finishing: Finishing, error: StemTubeError
) -> None:
    kept = Uploads(database, objects, DAY, Reservations(database, 0))
    upload = await kept.create("ann", "a.wav", 6, None, "")
    await kept.append("ann", upload.id, 0, pieces(b"abc"), finishing)
    finishing.error = error
    with pytest.raises(type(error)):
        await kept.append("ann", upload.id, 3, pieces(b"def"), finishing)
    # The last byte is dropped: a client takes an upload with all its bytes for complete, and would not try again.
    assert (await kept.get("ann", upload.id)).offset_bytes == 5
    finishing.error = None
    assert (await kept.append("ann", upload.id, 5, pieces(b"f"), finishing)).track_id == "track"
    # A client whose answer was lost sends no bytes, and nothing is done again.
    assert (await kept.append("ann", upload.id, 6, pieces(), finishing)).track_id == "track"
    assert finishing.files == [b"abcdef"]


async def test_a_call_cancelled_at_the_last_byte_does_not_keep_it(
    database: Database, objects: ObjectStore, finishing: Finishing
) -> None:
    kept = Uploads(database, objects, DAY, Reservations(database, 0))
    upload = await kept.create("ann", "a.wav", 3, None, "")

    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await kept.append("ann", upload.id, 0, broken(), finishing)
    assert (await kept.get("ann", upload.id)).offset_bytes == 2
    assert (await kept.append("ann", upload.id, 2, pieces(b"c"), finishing)).track_id == "track"
    assert finishing.files == [b"abc"]


async def test_a_refused_upload_is_removed(database: Database, objects: ObjectStore, finishing: Finishing) -> None:
    kept = Uploads(database, objects, DAY, Reservations(database, 0))
    upload = await kept.create("ann", "a.wav", 6, None, "")
    await kept.append("ann", upload.id, 0, pieces(b"abc"), finishing)
    finishing.error = InvalidInputError("no song", "NOT_AUDIO")
    with pytest.raises(InvalidInputError):
        await kept.append("ann", upload.id, 3, pieces(b"def"), finishing)
    with pytest.raises(NotFoundError):
        await kept.get("ann", upload.id)
    assert await keys_of(objects) == []


async def test_only_one_of_two_concurrent_pieces_is_kept(
    database: Database, objects: ObjectStore, finishing: Finishing
) -> None:
    kept = Uploads(database, objects, DAY, Reservations(database, 0))
    upload = await kept.create("ann", "a.wav", 6, None, "")

    async def late() -> AsyncIterator[bytes]:
        yield b"xyz"
        await kept.append("ann", upload.id, 0, pieces(b"ab"), finishing)

    with pytest.raises(AbortedError) as told:
        await kept.append("ann", upload.id, 0, late(), finishing)
    assert told.value.reason == "OFFSET_MISMATCH"
    await kept.append("ann", upload.id, 2, pieces(b"cdef"), finishing)
    assert finishing.files == [b"abcdef"]


async def test_a_sweep_removes_only_expired_uploads(
    database: Database, objects: ObjectStore, finishing: Finishing
) -> None:
    kept, short = (
        Uploads(database, objects, lifetime, Reservations(database, 0)) for lifetime in (DAY, timedelta(seconds=0.01))
    )
    going_on = await kept.create("ann", "a.wav", 6, None, "")
    await kept.append("ann", going_on.id, 0, pieces(b"abc"), finishing)
    left = await kept.create("ann", "b.wav", 6, None, "")
    await short.append("ann", left.id, 0, pieces(b"abc"), finishing)
    await asyncio.sleep(0.05)
    await short.forget_expired()
    assert (await kept.get("ann", left.id)).offset_bytes == 3, "it must have been seen as expired for a while"
    await asyncio.sleep(0.05)
    await short.forget_expired()
    with pytest.raises(NotFoundError):
        await kept.get("ann", left.id)
    nothing = timedelta()
    sweeper = Sweeper(objects, database, Usage(database, objects, 0), older_than=nothing, stems_older_than=nothing)
    assert [key.split("/")[1] for key in (await sweeper.sweep(dry_run=True)).objects] == [left.id]
    await sweeper.sweep()
    assert [key.split("/")[1] for key in await keys_of(objects)] == [going_on.id]
    done = await kept.append("ann", going_on.id, 3, pieces(b"def"), finishing)
    assert done.track_id == "track"
    async with database.read() as session:
        assert await session.get(Upload, left.id) is None


async def test_an_upload_can_continue_after_the_clock_has_jumped(
    database: Database, objects: ObjectStore, finishing: Finishing
) -> None:
    kept = Uploads(database, objects, DAY, Reservations(database, 0))
    upload = await kept.create("ann", "a.wav", 6, None, "")
    await kept.append("ann", upload.id, 0, pieces(b"abc"), finishing)
    async with database.write() as session:  # as if two days had passed
        await session.execute(update(Upload).values(expire_time=datetime.now(UTC) - DAY))
    two_days_ago = timedelta(days=-2)
    sweeper = Sweeper(
        objects, database, Usage(database, objects, 0), older_than=two_days_ago, stems_older_than=two_days_ago
    )
    await kept.forget_expired()
    await sweeper.sweep()
    done = await kept.append("ann", upload.id, 3, pieces(b"def"), finishing)
    assert (done.track_id, finishing.files) == ("track", [b"abcdef"])


async def test_an_unnamed_piece_of_an_upload_is_swept(
    database: Database, objects: ObjectStore, finishing: Finishing
) -> None:
    """A process that dies between storing and naming a piece leaves an unnamed one, which once was never swept."""
    kept = Uploads(database, objects, DAY, Reservations(database, 0))
    upload = await kept.create("ann", "a.wav", 6, None, "")
    await kept.append("ann", upload.id, 0, pieces(b"abc"), finishing)
    named = await keys_of(objects)
    await objects.put(f"uploads/{upload.id}/unnamed", b"def")
    nothing = timedelta()
    usage = Usage(database, objects, 0)
    await Sweeper(objects, database, usage, older_than=nothing, stems_older_than=nothing).sweep()
    assert await keys_of(objects) == named


async def test_a_user_has_a_limited_number_of_uploads(database: Database, objects: ObjectStore) -> None:
    kept = Uploads(database, objects, DAY, Reservations(database, 0), most_unfinished=2)
    first = await kept.create("ann", "a.wav", 5, None, "")
    await kept.create("ann", "a.wav", 7, None, "")
    with pytest.raises(Exception, match="unfinished") as told:
        await kept.create("ann", "a.wav", 5, None, "")
    assert told.value.reason == "TOO_MANY_UPLOADS"  # type: ignore[attr-defined]
    await kept.create("ben", "a.wav", 5, None, "")
    await kept.delete("ann", first.id)
    await kept.create("ann", "a.wav", 5, None, "")
