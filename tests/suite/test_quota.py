"""A quota with many uploads at once, sent to two processes of the library by gRPC and through the gateway."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from services.common import audio
from services.common.rpc.client import domain_error
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import ObjectStore
from tests.suite.client import Client, reason
from tests.suite.conftest import add_user
from tests.suite.grpc_client import GrpcClient
from tests.suite.running import PASSWORD, Suite

ROOM, COUNT, SECONDS = 2, 8, 3
SIZE = SECONDS * 44_100 * 2 * 3  # stereo, 24 bit


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    quota = ROOM * SIZE + SIZE // 2
    suite = Suite(tmp_path_factory.mktemp("quota"), settings={"DOWNLOAD__QUOTA_BYTES": quota})
    try:
        suite.start("auth", "download", "download-2", "gateway")
        asyncio.run(add_user(suite, "ben"))
        yield suite
    finally:
        for name in suite.processes:
            suite.kill(name)


@pytest.fixture
async def clients(suite: Suite) -> AsyncIterator[list[GrpcClient]]:
    """One client for each process of the library."""
    async with GrpcClient(suite) as one, GrpcClient(suite, "download-2") as two:
        for client in (one, two):
            await client.sign_in("ben", PASSWORD)
        yield [one, two]


def song(folder: Path, seed: int) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, SECONDS * 44_100)).astype(np.float32)
    path = folder / f"song {seed}.wav"
    audio.encode(noise, 44_100, path, "wav")
    return path


async def test_exactly_the_uploads_that_fit_into_the_quota_succeed(
    suite: Suite, clients: list[GrpcClient], ben: Client, tmp_path: Path
) -> None:
    objects = ObjectStore.from_url(str(suite.data / "objects"))
    songs = [song(tmp_path, seed) for seed in range(COUNT)]

    async def by_grpc(number: int) -> str:
        try:
            return str((await clients[number % 2].upload(songs[number])).track.id and "OK")
        except grpc.aio.AioRpcError as error:
            return domain_error(error).reason

    async def by_form(number: int) -> str:
        status, answer = await ben.upload(songs[number])
        if status == 200:
            return "OK"
        assert status == 429
        return reason(answer)

    ways = [by_grpc(number) if number % 4 else by_form(number) for number in range(COUNT)]
    answers = await asyncio.gather(*ways)
    assert Counter(answers) == {"OK": ROOM, "QUOTA_EXCEEDED": COUNT - ROOM}
    tracks = (await ben.get("/tracks"))["tracks"]
    assert len(tracks) == ROOM
    kept = [info.key async for info in objects.list() if info.key != MARKER]
    assert sorted(key.split("/")[0] for key in kept) == ["originals"] * ROOM + ["peaks"] * ROOM
    use = await ben.get("/storage")
    assert int(use["usedBytes"]) == sum([(await objects.head(key)).size for key in kept])
    # Permanent deletion frees room, once.
    status, _ = await ben.call("DELETE", f"/tracks/{tracks[0]['id']}?permanently=true")
    assert status == 200
    refused = [number for number, answer in enumerate(answers) if answer == "QUOTA_EXCEEDED"]
    assert Counter([await by_grpc(number) for number in refused[:2]])["OK"] == 1
