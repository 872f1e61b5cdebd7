"""One running suite for all tests of this folder, and clients of it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.demo_song import DemoSong, short_song
from services.auth.passwords import PasswordHasher
from services.auth.store import User, fold
from services.common import audio
from services.common.database import Database
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
async def grpc_client(suite: Suite) -> AsyncIterator[GrpcClient]:
    async with GrpcClient(suite) as client:
        await client.sign_in("ben", PASSWORD)
        yield client


async def add_user(suite: Suite, name: str) -> None:
    """Adds an account; there is no RPC for that yet."""
    hashed = await PasswordHasher(cost=4, threads=1).hash(PASSWORD)
    async with Database(f"sqlite:///{suite.data}/databases/auth.sqlite") as database, database.write() as session:
        session.add(
            User(
                id=uuid.uuid4().hex,
                username=name,
                folded_username=fold(name),
                password_hash=hashed,
                admin=False,
                create_time=datetime.now(UTC),
            )
        )
