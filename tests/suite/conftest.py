"""One running suite for all tests of this folder, and its clients."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.common import audio
from songs.song import DemoSong, short_song
from tests.download.site import Site
from tests.suite.client import Client
from tests.suite.grpc_client import GrpcClient
from tests.suite.running import PASSWORD, Suite


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("suite"))
    try:
        suite.start("auth", "separation", "analysis", "download", "gateway")
        asyncio.run(add_user(suite, "ben"))
        yield suite
    finally:
        suite.stop()


@pytest.fixture(scope="session")
def song() -> DemoSong:
    return short_song()


@pytest.fixture(scope="session")
def song_file(song: DemoSong, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / "Morning Light.flac"
    audio.encode(song.mix, 44_100, path, "flac")
    return path


@pytest.fixture
async def client(suite: Suite) -> AsyncIterator[Client]:
    async with Client(suite.url) as client:
        await client.sign_in("admin", PASSWORD)
        yield client


@pytest.fixture
async def ben(suite: Suite) -> AsyncIterator[Client]:
    async with Client(suite.url) as client:
        await client.sign_in("ben", PASSWORD)
        yield client


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def grpc_client(suite: Suite) -> AsyncIterator[GrpcClient]:
    async with GrpcClient(suite) as client:
        await client.sign_in("ben", PASSWORD)
        yield client


async def add_user(suite: Suite, name: str) -> None:
    """Adds an account whose user has chosen the password."""
    async with Client(suite.url) as admin, Client(suite.url) as user:
        await admin.sign_in("admin", PASSWORD)
        status, made = await admin.call("POST", "/admin/users", json={"username": name})
        assert status == 200, made
        first = made["oneTimePassword"]
        await user.sign_in(name, first)
        status, changed = await user.call(
            "POST", "/auth/password", json={"oldPassword": first, "newPassword": PASSWORD}
        )
        assert status == 200, changed
