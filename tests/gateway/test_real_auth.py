"""The sign-in cookies with the real auth service and its database behind the gateway."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from cli.api import Api, ApiError
from gateway.app import start as start_gateway
from gateway.config import GatewaySection, GatewaySettings
from services.auth.app import open_auth
from services.auth.config import AuthSection, AuthSettings
from services.common.config import AddressSettings
from services.common.rpc import server
from services.common.rpc.draining import Draining

ADMIN = {"username": "admin", "password": "correct horse battery"}


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a gateway with the real auth service behind it."""
    settings = AuthSettings(
        data_dir=tmp_path, admin_password=SecretStr(ADMIN["password"]), auth=AuthSection(bcrypt_cost=4)
    )
    async with open_auth(settings) as (service, verifier):
        auth = await server.start(
            service,
            listen="127.0.0.1:0",
            health_listen="127.0.0.1:0",
            verifier=verifier,
            draining=Draining(),
        )
        gateway = await start_gateway(
            GatewaySettings(
                data_dir=tmp_path,
                address=AddressSettings(auth=f"127.0.0.1:{auth.port}"),
                gateway=GatewaySection(listen="127.0.0.1:0", health_listen=None),
            )
        )
        yield f"http://127.0.0.1:{gateway.port}"
        await gateway.stop()
        await auth.stop(0.1)


@pytest.fixture
async def browser(address: str) -> AsyncIterator[aiohttp.ClientSession]:
    headers, jar = {"Origin": address}, aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(address, headers=headers, cookie_jar=jar) as session:
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

    # A reused refresh token was stolen from or by its sender: the session ends.
    for token in (spent, fresh):
        cookie = {"Cookie": f"stemtube_refresh={token}", "Origin": address}
        async with aiohttp.request("POST", f"{address}/api/v1/auth/refresh", headers=cookie) as response:
            assert response.status == 401

    async with browser.post("/api/v1/auth/logout") as response:
        assert response.status == 200
    async with browser.get("/api/v1/me") as response:
        assert response.status == 401


async def test_a_one_time_password_registration_and_api_tokens(address: str, browser: aiohttp.ClientSession) -> None:
    async with browser.post("/api/v1/auth/login", json=ADMIN) as response:
        assert response.status == 200
    async with browser.post("/api/v1/admin/users", json={"username": "ben"}) as response:
        first = (await response.json())["oneTimePassword"]
    async with browser.post("/api/v1/auth/register", json={"username": "eve", "password": "x" * 8}) as response:
        assert (response.status, (await response.json())["details"][0]["reason"]) == (403, "REGISTRATION_CLOSED")

    async with browser.post("/api/v1/auth/login", json={"username": "ben", "password": first}) as response:
        assert (await response.json())["user"]["mustChangePassword"]
    async with browser.get("/api/v1/me/sessions") as response:
        assert (response.status, (await response.json())["details"][0]["reason"]) == (403, "PASSWORD_CHANGE_REQUIRED")
    change = {"oldPassword": first, "newPassword": "a password of my own"}
    async with browser.post("/api/v1/auth/password", json=change) as response:
        assert set(response.cookies) == {"stemtube_access", "stemtube_refresh"}
    async with browser.get("/api/v1/me/sessions") as response:
        assert [session["current"] for session in (await response.json())["sessions"]] == [True]

    async with browser.post("/api/v1/me/tokens", json={"name": "backup", "scopes": ["read"]}) as response:
        made = await response.json()
    script = {"Authorization": f"Bearer {made['secret']}"}
    for _ in range(2):
        async with aiohttp.request("GET", f"{address}/api/v1/me", headers=script) as response:
            assert (await response.json())["user"]["username"] == "ben"
    async with aiohttp.request("GET", f"{address}/api/v1/me/tokens", headers=script) as response:
        assert (response.status, (await response.json())["details"][0]["reason"]) == (403, "INSUFFICIENT_SCOPE")
    wrong = {"Authorization": "Bearer stemtube_nonsense"}
    async with aiohttp.request("GET", f"{address}/api/v1/me", headers=wrong) as response:
        assert (response.status, (await response.json())["details"][0]["reason"]) == (401, "BAD_API_TOKEN")


async def test_api_tokens_end_when_the_password_changes_unless_they_are_kept(address: str) -> None:
    async with Api(address) as api:
        await api.sign_in(ADMIN["username"], ADMIN["password"])
        made = await api.post("/api/v1/me/tokens", {"name": "backup", "scopes": ["read"]})
        script = {"Authorization": f"Bearer {made['secret']}"}
        await api.change_password("a password of my own", end_tokens=False)
        assert len((await api.get("/api/v1/me/tokens"))["apiTokens"]) == 1
        async with aiohttp.request("GET", f"{address}/api/v1/me", headers=script) as response:
            assert response.status == 200
        await api.change_password("another of my own")
        assert (await api.get("/api/v1/me/tokens"))["apiTokens"] == []
        async with asyncio.timeout(60):
            status = 200
            while status != 401:
                await asyncio.sleep(0.2)
                async with aiohttp.request("GET", f"{address}/api/v1/me", headers=script) as response:
                    status = response.status


async def test_a_script_is_accepted_as_soon_as_a_wrong_clock_is_corrected(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Api(address) as api:
        await api.sign_in(ADMIN["username"], ADMIN["password"])
        made = await api.post("/api/v1/me/tokens", {"name": "backup", "scopes": ["read"]})
    script, real = {"Authorization": f"Bearer {made['secret']}"}, time.time
    statuses = []
    for shift in (3600, 0):  # the clock that issues tokens
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
        async with aiohttp.request("GET", f"{address}/api/v1/me", headers=script) as response:
            statuses.append(response.status)
    assert statuses == [401, 200]


def begun_earlier(database: Path) -> None:
    # In a thread: the service in this one may be about to end a transaction.
    with sqlite3.connect(database) as file:
        file.execute("UPDATE sessions SET create_time = datetime('now', '-6 minutes')")
    file.close()


async def test_an_api_token_requires_the_password_after_some_minutes(address: str, tmp_path: Path) -> None:
    wanted = {"name": "backup", "scopes": ["read"]}
    async with Api(address) as api:
        await api.sign_in(ADMIN["username"], ADMIN["password"])
        await asyncio.to_thread(begun_earlier, tmp_path / "databases" / "auth.sqlite")
        with pytest.raises(ApiError, match="Give your password") as refused:
            await api.post("/api/v1/me/tokens", wanted)
        assert refused.value.status == 403
        await api.post("/api/v1/me/tokens", {**wanted, "password": ADMIN["password"]})


async def test_signing_in_again_in_the_same_browser_replaces_the_session(browser: aiohttp.ClientSession) -> None:
    for _ in range(3):
        async with browser.post("/api/v1/auth/login", json=ADMIN) as response:
            assert response.status == 200
    async with browser.get("/api/v1/me/sessions") as response:
        assert [session["current"] for session in (await response.json())["sessions"]] == [True]


async def test_too_many_guesses_get_a_retry_time(browser: aiohttp.ClientSession) -> None:
    for _ in range(30):
        async with browser.post("/api/v1/auth/login", json={**ADMIN, "password": "wrong password"}) as response:
            content = await response.json()
        if response.status == 429:
            break
    assert content["details"][0]["reason"] == "TOO_MANY_ATTEMPTS"
    assert int(response.headers["Retry-After"]) >= 1
