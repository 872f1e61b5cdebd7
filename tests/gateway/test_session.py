"""Signing in and out of a browser."""

from http.cookies import SimpleCookie

import aiohttp
import pytest

from tests.gateway.conftest import Client, Connect
from tests.gateway.suite import PASSWORD

LOGIN = "/api/v1/auth/login"
ANN = {"username": "ann", "password": PASSWORD}


@pytest.fixture
async def browser(connect: Connect) -> Client:
    return await connect(user=None)


def cookies_of(response: aiohttp.ClientResponse) -> SimpleCookie:
    return response.cookies


async def test_a_browser_signs_in_and_needs_no_token_from_then_on(browser: Client) -> None:
    async with browser.http.post(LOGIN, json=ANN) as response:
        content = await response.json()
        assert response.headers["Cache-Control"] == "no-store"
    assert set(content) == {"accessToken", "expiresIn", "user"}
    assert content["expiresIn"] == 60
    assert content["user"] == {"id": "ann", "username": "ann", "admin": False}
    assert (await browser.json("GET", "/api/v1/me"))[1]["user"]["id"] == "ann"


async def test_the_cookies_are_out_of_reach_for_scripts_and_other_sites(browser: Client) -> None:
    async with browser.http.post(LOGIN, json=ANN) as response:
        content, cookies = await response.json(), cookies_of(response)
    assert set(cookies) == {"stemtube_access", "stemtube_refresh"}
    for name, path, seconds in (("stemtube_access", "/api", "60"), ("stemtube_refresh", "/api/v1/auth", "3600")):
        cookie = cookies[name]
        assert (cookie["path"], cookie["max-age"], cookie["samesite"]) == (path, seconds, "Strict")
        assert cookie["httponly"]
        assert not cookie["secure"]
    assert cookies["stemtube_refresh"].value not in str(content)


async def test_behind_https_cookies_are_secure(connect: Connect) -> None:
    browser = await connect(user=None, public_url="https://stems.example.org")
    async with browser.http.post(LOGIN, json=ANN) as response:
        assert all(cookie["secure"] for cookie in cookies_of(response).values())
        assert "Strict-Transport-Security" in response.headers


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"username": "ann", "password": "wrong"}, 401, "BAD_CREDENTIALS"),
        ({}, 401, "BAD_CREDENTIALS"),
        ({"username": "ann", "password": 5}, 400, "BAD_REQUEST"),
        ({"username": "ann", "password": PASSWORD, "admin": True}, 400, "BAD_REQUEST"),
    ],
)
async def test_who_cannot_sign_in(browser: Client, body: dict[str, object], status: int, reason: str) -> None:
    assert await browser.refused("POST", LOGIN, json=body) == (status, reason)


async def test_an_old_token_does_not_stand_in_the_way_of_signing_in(browser: Client) -> None:
    headers = {"Authorization": "Bearer expired", "Cookie": "stemtube_access=expired"}
    assert (await browser.json("POST", LOGIN, json=ANN, headers=headers))[0] == 200


async def test_refreshing_changes_both_tokens(browser: Client) -> None:
    async with browser.http.post(LOGIN, json=ANN) as response:
        old = cookies_of(response)["stemtube_refresh"].value
    async with browser.http.post("/api/v1/auth/refresh") as response:
        assert set(await response.json()) == {"accessToken", "expiresIn", "user"}
        new = cookies_of(response)["stemtube_refresh"].value
    assert old != new
    assert list(browser.suite.auth.refresh_tokens) == [new]


async def test_a_spent_refresh_token_is_taken_away(browser: Client) -> None:
    headers = {"Cookie": "stemtube_refresh=spent"}
    async with browser.http.post("/api/v1/auth/refresh", headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["details"][0]["reason"] == "BAD_REFRESH_TOKEN"
        assert {cookie["max-age"] for cookie in cookies_of(response).values()} == {"0"}


async def test_without_a_cookie_there_is_nothing_to_refresh(browser: Client) -> None:
    assert await browser.refused("POST", "/api/v1/auth/refresh") == (401, "BAD_REFRESH_TOKEN")


async def test_signing_out(browser: Client) -> None:
    await browser.json("POST", LOGIN, json=ANN)
    async with browser.http.post("/api/v1/auth/logout") as response:
        assert (response.status, await response.json()) == (200, {})
    assert browser.suite.auth.refresh_tokens == {}
    assert list(browser.http.cookie_jar) == []
    assert await browser.refused("GET", "/api/v1/me") == (401, "UNAUTHENTICATED")
    assert (await browser.json("POST", "/api/v1/auth/logout"))[0] == 200


async def test_while_auth_is_away_signing_out_forgets_and_refreshing_does_not(connect: Connect) -> None:
    browser = await connect(user=None, address={"auth": "127.0.0.1:1"}, call_seconds=0.3)
    headers = {"Cookie": "stemtube_refresh=kept"}
    async with browser.http.post("/api/v1/auth/refresh", headers=headers) as response:
        assert (response.status in (503, 504), len(cookies_of(response))) == (True, 0)
    async with browser.http.post("/api/v1/auth/logout", headers=headers) as response:
        assert (response.status in (503, 504), len(cookies_of(response))) == (True, 2)


async def test_another_sites_page_cannot_sign_anyone_in_or_out(browser: Client) -> None:
    headers = {"Origin": "https://evil.example"}
    for action in ("login", "refresh", "logout"):
        refused = await browser.refused("POST", f"/api/v1/auth/{action}", json=ANN, headers=headers)
        assert refused == (403, "BAD_ORIGIN")
