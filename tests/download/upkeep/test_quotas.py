"""Quotas are not exceeded by concurrent uploads, links and stems, also from several processes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from services.common.errors import LimitExceededError
from services.common.storage.database import Database, migrate
from services.common.storage.objects import ObjectStore
from services.download.pipeline.kept_stems import keep_stems
from services.download.tables import Reservation
from services.download.tracks.conversions import Conversions
from services.download.tracks.repository import AudioFacts, SongFacts, TrackRepository
from services.download.tracks.versions import Versions
from services.download.upkeep import reservations
from services.download.upkeep.reservations import Reservations
from services.download.upkeep.usage import Usage
from services.download.uploads.uploads import Uploads
from stemtube.separation.v1 import separation_pb2
from tests.common.postgres import create_database

DAY = timedelta(days=1)
SIZE, PEAKS = 1000, 20


@pytest.fixture(params=["sqlite", "postgresql"])
async def databases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """One database, opened by two processes."""
    url = create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/library.sqlite"
    await migrate(url, "services.download")
    async with Database(url) as first, Database(url) as second:
        yield [first, second]


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url(str(tmp_path / "objects"))


def facts(name: str, size: int = SIZE) -> AudioFacts:
    return AudioFacts(f"originals/{name}", f"peaks/{name}", "", name, "wav", 1.0, 44_100, 2, -20.0, size_bytes=size)


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(0)
        yield bytes(size)


async def outcomes(calls: list[asyncio.Task[None]]) -> tuple[int, int]:
    """The number of calls that succeeded, and of those that the quota refused."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    refused = [error for error in ended if isinstance(error, LimitExceededError) and error.reason == "QUOTA_EXCEEDED"]
    assert all(error is None or error in refused for error in ended), ended
    return ended.count(None), len(refused)


@pytest.mark.parametrize(("room", "count"), [(2, 8), (5, 13)])
async def test_concurrent_uploads_succeed_as_far_as_there_is_room(
    databases: list[Database], objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, room: int, count: int
) -> None:
    monkeypatch.setattr(reservations, "STEP_BYTES", SIZE // 5)
    usages = [Usage(database, objects, room * (SIZE + PEAKS) + SIZE // 2) for database in databases]

    async def upload(number: int) -> None:
        usage, library = usages[number % 2], TrackRepository(databases[number % 2])
        async with usage.held("ann") as held:
            size = sum([len(chunk) async for chunk in held.growing(chunks(10, SIZE // 10))])
            await held.set_size(size)
            await asyncio.sleep(0.01)
            await held.set_size(size + PEAKS)
            song = SongFacts(f"{number}", "")
            await library.add_upload("ann", song, facts(f"{number}", size + PEAKS), reservation_id=held.id)

    assert await outcomes([asyncio.create_task(upload(number)) for number in range(count)]) == (room, count - room)
    use = await usages[0].of("ann")
    assert (use.used_bytes, use.track_count) == (room * (SIZE + PEAKS), room)
    # Refused uploads hold no room.
    await usages[1].expect_room("ann", SIZE // 2)
    await usages[1].expect_room("ben", room * SIZE)


async def test_concurrent_announced_uploads_are_accepted_as_far_as_there_is_room(
    databases: list[Database], objects: ObjectStore
) -> None:
    kept = [Uploads(database, objects, DAY, Reservations(database, 3 * SIZE)) for database in databases]

    async def create(number: int) -> None:
        await kept[number % 2].create("ann", "a.wav", SIZE, None, "")

    assert await outcomes([asyncio.create_task(create(number)) for number in range(9)]) == (3, 6)
    with pytest.raises(LimitExceededError):
        await kept[0].create("ann", "a.wav", 1, None, "")
    await kept[0].create("ben", "a.wav", 3 * SIZE, None, "")


async def test_a_deleted_upload_releases_its_room(databases: list[Database], objects: ObjectStore) -> None:
    kept = Uploads(databases[0], objects, DAY, Reservations(databases[0], SIZE))
    upload = await kept.create("ann", "a.wav", SIZE, None, "")
    await kept.delete("ann", upload.id)
    await kept.create("ann", "a.wav", SIZE, None, "")


async def test_a_finished_upload_counts_once(databases: list[Database], objects: ObjectStore) -> None:
    usage = Usage(databases[0], objects, 2 * SIZE)
    kept = Uploads(databases[0], objects, DAY, usage.reservations)
    upload = await kept.create("ann", "a.wav", SIZE, None, "")
    await TrackRepository(databases[0]).add_upload("ann", SongFacts("a", ""), facts("a"), reservation_id=upload.id)
    await usage.expect_room("ann", SIZE)
    with pytest.raises(LimitExceededError):
        await usage.expect_room("ann", SIZE + 1)


async def test_only_reservations_of_dead_processes_expire(
    databases: list[Database], objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "LIFETIME", timedelta(seconds=0.5))
    monkeypatch.setattr(reservations, "RENEWAL_SECONDS", 0.1)
    usage = Usage(databases[0], objects, SIZE)
    async with usage.held("ann") as held:
        await held.set_size(SIZE)
        await usage.reservations.reserve("ben", "left-behind", SIZE)
        forgetting = asyncio.create_task(usage.reservations.run())
        async with asyncio.timeout(30):
            while True:
                try:
                    await usage.expect_room("ben", SIZE)
                    break
                except LimitExceededError:
                    await asyncio.sleep(0.05)
        forgetting.cancel()
        with pytest.raises(LimitExceededError):
            await usage.expect_room("ann", 1)
    await usage.expect_room("ann", SIZE)


async def test_reservations_do_not_expire_when_the_clock_jumps(databases: list[Database], objects: ObjectStore) -> None:
    usage = Usage(databases[0], objects, SIZE)
    async with usage.held("ann") as held:
        await held.set_size(SIZE)
        async with databases[0].write() as session:  # as if made before the clock jumped forward
            long_ago = datetime.now(UTC) - DAY
            await session.execute(update(Reservation).values(create_time=long_ago, expire_time=long_ago))
        await usage.reservations.forget_abandoned()
        with pytest.raises(LimitExceededError):
            await usage.expect_room("ann", 1)


async def test_a_link_that_others_have_needs_room_too(databases: list[Database], objects: ObjectStore) -> None:
    usages = [Usage(database, objects, 2 * SIZE) for database in databases]
    library = TrackRepository(databases[0])
    urls = [f"https://example.org/{number}" for number in range(6)]
    for number, url in enumerate(urls):
        track = await library.add_link("ben", url)
        await library.set_audio(track.id, SongFacts(url, ""), facts(f"{number}"))

    async def add(number: int) -> None:
        async with usages[number % 2].held("ann") as room:
            await room.set_size(await usages[number % 2].of_link("ann", urls[number]))
            await TrackRepository(databases[number % 2]).add_link("ann", urls[number], reservation_id=room.id)

    assert await outcomes([asyncio.create_task(add(number)) for number in range(6)]) == (2, 4)
    assert (await usages[0].of("ann")).used_bytes == 2 * SIZE


async def test_the_cache_of_other_formats_has_a_limited_size(objects: ObjectStore) -> None:
    conversions = Conversions(objects, 30)

    async def make(name: str, size: int = 10) -> None:
        await objects.put(f"derived/originals/{name}.mp3", bytes(size))
        await asyncio.sleep(0.02)  # so that they have an order
        await conversions.note(f"derived/originals/{name}.mp3")

    async def left() -> str:
        return "".join(sorted([info.key[-5] async for info in objects.list("derived")]))

    for name in "abcd":
        await make(name)
    assert await left() == "bcd"
    await make("e", 100)
    assert await left() == "e", "a copy that is larger than the cache stays until the next one is made"
    await make("f")
    assert await left() == "f"
    # Copies of another process are found by maintenance.
    for name in "ghij":
        await objects.put(f"derived/originals/{name}.mp3", bytes(10))
        await asyncio.sleep(0.02)
    await objects.put("originals/a", bytes(1000))
    await conversions.trim()
    assert await left() == "hij"
    assert await objects.exists("originals/a")


async def test_a_final_reservation_has_priority_over_a_growing_one(
    databases: list[Database], objects: ObjectStore
) -> None:
    usage = Usage(databases[0], objects, 2 * SIZE)
    async with usage.held("ann") as older, usage.held("ann") as younger:
        arriving = older.growing(chunks(1, SIZE // 2))
        assert await anext(arriving)
        await younger.set_size(SIZE + SIZE // 2)
        await younger.set_size(SIZE + SIZE // 2 + PEAKS)
        with pytest.raises(LimitExceededError):
            await older.set_size(SIZE)


async def test_concurrent_separations_keep_stems_as_far_as_there_is_room(
    databases: list[Database], objects: ObjectStore
) -> None:
    usages = [Usage(database, objects, 5 + 2 * (SIZE + PEAKS) + PEAKS) for database in databases]
    tracks = [
        (await TrackRepository(databases[0]).add_upload("ann", SongFacts("a", ""), facts(f"{n}", 1)))[0]
        for n in range(5)
    ]
    separations = {}
    for track in tracks:
        key = f"stems/{track.id}/vocals.flac"
        await objects.put(key, bytes(SIZE))
        await objects.put(f"{key}.peaks", bytes(PEAKS))
        stem = separation_pb2.Stem(name="vocals", audio_key=key, peaks_key=f"{key}.peaks", gain=1.0)
        separations[track.id] = separation_pb2.Separation(model="m", stems=[stem])

    async def keep(number: int) -> None:
        track_id, process = tracks[number].id, number % 2
        versions = Versions(databases[process])
        separation = separations[track_id]
        result = await keep_stems(versions, usages[process], "ann", track_id, separation, by_hand=False, again=False)
        assert result.replaced == []

    assert await outcomes([asyncio.create_task(keep(number)) for number in range(5)]) == (2, 3)
    assert (await usages[0].of("ann")).used_bytes == 5 + 2 * (SIZE + PEAKS)
    # The same stems again take no more room.
    data = [await TrackRepository(databases[0]).track(track.id) for track in tracks]
    kept = next(number for number, found in enumerate(data) if found is not None and found.stems)
    await keep(kept)
