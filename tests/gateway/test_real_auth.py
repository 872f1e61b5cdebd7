"""The sign-in cookies with the real auth service and its database behind the gateway."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from gateway.app import start as start_gateway
from gateway.config import GatewaySection, GatewaySettings
from services.auth.app import open_auth
from services.auth.config import AuthSection, AuthSettings
from services.common import server
from services.common.config import AddressSettings

ADMIN = {"username": "admin", "password": "correct horse battery"}


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """Where a gateway listens that has the real auth service behind it."""
    settings = AuthSettings(
        data_dir=tmp_path, admin_password=SecretStr(ADMIN["password"]), auth=AuthSection(bcrypt_cost=4)
    )
    async with open_auth(settings) as (service, verifier):
        auth = await server.start(
            service,
            listen="127.0.0.1:0",
            health_listen="127.0.0.1:0",
            verifier=verifier,
            draining=server.Draining(),
        )
        gateway = await start_gateway(
            GatewaySettings(
                data_dir=tmp_path,
                address=AddressSettings(auth=f"127.0.0.1:{auth.port}"),
                gateway=GatewaySection(listen="127.0.0.1:0"),
            )
        )
        yield f"http://127.0.0.1:{gateway.port}"
        await gateway.stop()
        await auth.stop(0.1)


@pytest.fixture
async def browser(address: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(address, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def test_a_session_from_signing_in_to_signing_out(address: str, browser: aiohttp.ClientSession) -> None:
    async with browser.post("/api/v1/auth/login", json={**ADMIN, "password": "wrong password"}) as response:
        assert response.status == 401
        assert (await response.json())["details"][0]["reason"] == "BAD_CREDENTIALS"
    async with browser.post("/api/v1/auth/login", json=ADMIN) as response:
        content = await response.json()
        spent = response.cookies["stemtube_refresh"].value
    assert content["user"]["admin"]
    assert content["expiresIn"] == 900
    async with browser.get("/api/v1/me") as response:
        assert (await response.json())["user"]["username"] == "admin"
    async with browser.post("/api/v1/auth/refresh") as response:
        assert response.status == 200
        fresh = response.cookies["stemtube_refresh"].value

    # A program may use the access token instead of the cookies.
    headers = {"Authorization": f"Bearer {content['accessToken']}"}
    async with aiohttp.request("GET", f"{address}/api/v1/me", headers=headers) as response:
        assert response.status == 200

    # Whoever brings a spent refresh token has stolen it, or was stolen from: the session ends.
    for token in (spent, fresh):
        cookie = {"Cookie": f"stemtube_refresh={token}"}
        async with aiohttp.request("POST", f"{address}/api/v1/auth/refresh", headers=cookie) as response:
            assert response.status == 401

    async with browser.post("/api/v1/auth/logout") as response:
        assert response.status == 200
    async with browser.get("/api/v1/me") as response:
        assert response.status == 401
