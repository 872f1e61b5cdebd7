import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import RunningGateway, start
from gateway.config import MIB, GatewaySection, GatewaySettings
from services.common.config import AddressSettings, LimitSettings
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from tests.gateway.suite import Suite, running_suite, token_of


@dataclass
class Client:
    """A user's program: HTTP with an access token."""

    http: aiohttp.ClientSession
    gateway: RunningGateway
    suite: Suite
    settings: GatewaySettings

    async def json(self, method: str, path: str, **arguments: Any) -> tuple[int, Any]:
        async with self.http.request(method, path, **arguments) as response:
            assert response.content_type == "application/json"
            return response.status, json.loads(await response.text())

    async def refused(self, method: str, path: str, **arguments: Any) -> tuple[int, str]:
        """HTTP status and reason of a request that must fail."""
        status, content = await self.json(method, path, **arguments)
        assert status >= 400, content
        return status, content["details"][0]["reason"]


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    async with running_suite() as suite:
        yield suite


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect(suite: Suite, tmp_path: Path) -> AsyncIterator[Connect]:
    """Starts a gateway with given settings and returns a client of it; `user=None` is a browser without cookies."""
    async with AsyncExitStack() as stack:

        async def connect(
            user: str | None = "ann", address: dict[str, str] | None = None, max_bytes: int = 500 * MIB, **gateway: Any
        ) -> Client:
            addresses = {"auth": suite.address("auth"), "download": suite.address("download"), **(address or {})}
            settings = GatewaySettings(
                data_dir=tmp_path / "data",
                address=AddressSettings(**addresses),
                limit=LimitSettings(max_bytes=max_bytes),
                gateway=GatewaySection(
                    **{"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0", "shutdown_seconds": 0.5, **gateway}
                ),
            )
            await open_store(settings).put(MARKER, b"1")
            running = await start(settings)
            stack.push_async_callback(running.stop)
            headers = {"Authorization": f"Bearer {token_of(user)}"} if user else {"Sec-Fetch-Site": "same-origin"}
            jar = aiohttp.CookieJar(unsafe=True)
            http = aiohttp.ClientSession(f"http://127.0.0.1:{running.port}", headers=headers, cookie_jar=jar)
            await stack.enter_async_context(http)
            return Client(http, running, suite, settings)

        yield connect


@pytest.fixture
async def client(connect: Connect) -> Client:
    return await connect()
