import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.auth import throttle
from tests.auth.calling import Caller
from tests.auth.running import RunningAuth, auth_settings, running_auth


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
    """Waits that are over only when a test says so, however busy the machine is."""
    monkeypatch.setattr(throttle, "FIRST_WAIT_SECONDS", 60.0)
