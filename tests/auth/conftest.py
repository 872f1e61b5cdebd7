import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from services.auth.sessions import throttle
from services.auth.sessions.sessions import Sessions
from services.auth.users.repository import UserRepository
from services.common.storage.database import Database, migrate
from tests.auth.calling import Caller
from tests.auth.running import RunningAuth, auth_settings, running_auth
from tests.common.postgres import create_database

MONTH, MINUTE = timedelta(days=30), timedelta(minutes=1)


@pytest.fixture(autouse=True)
def empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STEMTUBE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncIterator[RunningAuth]:
    async with running_auth(auth_settings(tmp_path)) as auth:
        yield auth


@pytest.fixture
async def admin(auth: RunningAuth) -> Caller:
    return Caller(auth, await auth.login())


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits end only when a test says so, however busy the machine is."""
    monkeypatch.setattr(throttle, "FIRST_WAIT_SECONDS", 60.0)


@pytest.fixture(params=["sqlite", "postgresql"])
async def databases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """The connections of three replicas to one database."""
    url = create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/auth.sqlite"
    await migrate(url, "services.auth")
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Database(url)) for _ in range(3)]


@pytest.fixture
def repositories(databases: list[Database]) -> list[UserRepository]:
    return [UserRepository(database) for database in databases]


@pytest.fixture
def sessions(databases: list[Database]) -> list[Sessions]:
    return [Sessions(database, MONTH, MINUTE) for database in databases]
