"""A running server of the service in echo.py, and a client of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.common.rpc.auth import TokenVerifier
from services.common.rpc.client import open_channel
from services.common.rpc.server import (
    RunningServer,
    Service,
    start,
)
from tests.common.rpc.echo import KEY, Client, Echo


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def server(echo: Echo) -> AsyncIterator[RunningServer]:
    async def keys() -> Any:
        return {"k1": KEY.public_key()}

    service = Service("test.Echo", echo.register, public=("/test.Echo/Any",))
    running = await start(
        service,
        listen="127.0.0.1:0",
        health_listen="127.0.0.1:0",
        verifier=TokenVerifier(keys, echo.ended_sessions, refresh_seconds=0.1, retry_seconds=0.01),
        draining=echo.draining,
    )
    yield running
    await running.stop(0)


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        yield Client(channel)
