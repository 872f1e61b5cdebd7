"""Signing in and out in a browser; refusals of other pages and of too many requests."""

import asyncio
import contextlib
import re
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
    assert (content["user"]["id"], content["user"]["mustChangePassword"]) == ("ann", False)
    assert (await browser.json("GET", "/api/v1/me"))[1]["user"]["id"] == "ann"


async def test_scripts_and_other_sites_cannot_read_the_cookies(browser: Client) -> None:
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
async def test_refused_sign_ins(browser: Client, body: dict[str, object], status: int, reason: str) -> None:
    assert await browser.refused("POST", LOGIN, json=body) == (status, reason)


async def test_an_old_token_does_not_prevent_a_sign_in(browser: Client) -> None:
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


async def test_the_cookie_of_a_spent_refresh_token_is_deleted(browser: Client) -> None:
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


async def test_while_auth_is_away_signing_out_deletes_the_cookies_and_refreshing_keeps_them(connect: Connect) -> None:
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


async def test_cookies_authorise_writes_only_from_our_own_pages(connect: Connect) -> None:
    browser = await connect(user=None)
    await browser.json("POST", LOGIN, json=ANN)
    browser.http.headers.clear()
    own = {"Origin": f"http://127.0.0.1:{browser.gateway.port}"}
    for headers, allowed in (
        ({}, False),  # a browser would name its page
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        (own, True),
        ({**own, "Sec-Fetch-Site": "same-origin"}, True),
    ):
        status, content = await browser.json(
            "POST", "/api/v1/tracks", json={"url": "https://a.example"}, headers=headers
        )
        assert (status == 200) is allowed, headers
        if not allowed:
            assert (status, content["details"][0]["reason"]) == (403, "BAD_ORIGIN")
        with contextlib.suppress(aiohttp.WSServerHandshakeError):
            async with browser.http.ws_connect("/api/v1/events", headers=headers):
                assert allowed, headers
        # The only GET that changes something.
        weights = "/api/v1/admin/services/analysis/weights?model=tiny"
        _, content = await browser.json("GET", weights, headers={**headers, "Accept": "text/event-stream"})
        assert (content["details"][0]["reason"] != "BAD_ORIGIN") is allowed, headers
    assert (await browser.json("GET", "/api/v1/tracks"))[0] == 200


async def test_a_program_with_a_token_needs_no_origin(connect: Connect) -> None:
    program = await connect()
    program.http.headers.pop("Origin", None)
    assert (await program.json("POST", "/api/v1/tracks", json={"url": "https://a.example"}))[0] == 200


async def test_no_other_origin_reads_answers_unless_it_is_named(connect: Connect) -> None:
    app = "https://app.example.org"
    ask = {"Origin": app, "Access-Control-Request-Method": "PATCH"}
    closed = await connect()
    async with closed.http.options("/api/v1/tracks", headers=ask) as response:
        assert response.status == 405
        assert not [name for name in response.headers if name.startswith("Access-Control")]
    named = await connect(allowed_origins=(app,))
    async with named.http.options("/api/v1/tracks", headers=ask) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, app)
        assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    async with named.http.get("/api/v1/tracks", headers={"Origin": app}) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, app)
    for origin in ("https://app.example.org.evil.example", "http://app.example.org", "null"):
        async with named.http.get("/api/v1/tracks", headers={"Origin": origin}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Vary"] == "Origin"


async def test_no_page_has_inline_scripts(browser: Client) -> None:
    for path in ("/", "/api/docs", "/api/v1/me", "/nowhere"):
        async with browser.http.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            text = await response.text()
        assert "default-src 'none'" in policy
        assert "'unsafe-inline'" not in policy
        assert "'unsafe-eval'" not in policy
        assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|javascript:", text)


async def test_services_get_a_browsers_address_and_name(connect: Connect) -> None:
    client = await connect(trusted_proxies=("127.0.0.0/8", "10.0.0.0/8"))
    headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.7, 10.0.0.1", "User-Agent": "Mozilla/5.0 ü\t(X11)"}
    await client.json("GET", "/api/v1/tracks", headers=headers)
    seen = client.suite.library.metadata
    assert (seen["x-client-address"], seen["x-client-name"]) == ("203.0.113.7", "Mozilla/5.0 (X11)")
    await client.json("GET", "/api/v1/tracks", headers={"X-Forwarded-For": "made up"})
    assert client.suite.library.metadata["x-client-address"] == ""

    strict = await connect(trusted_proxies=())
    await strict.json("GET", "/api/v1/tracks", headers={"X-Forwarded-For": "6.6.6.6"})
    assert strict.suite.library.metadata["x-client-address"] == "127.0.0.1"


async def test_requests_of_an_address_are_limited_with_a_retry_time(connect: Connect) -> None:
    client = await connect(trusted_proxies=(), requests_per_second=0.05, request_burst=3)
    for _ in range(3):
        assert (await client.json("GET", "/api/v1/tracks"))[0] == 200
    async with client.http.get("/api/v1/tracks") as response:
        assert response.status == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 20
        assert (await response.json())["details"][0]["reason"] == "TOO_MANY_REQUESTS"


async def test_connections_from_an_address_are_limited(connect: Connect) -> None:
    client = await connect(trusted_proxies=(), connections_per_address=2)
    await client.json("GET", "/healthz")
    async with client.http.ws_connect("/api/v1/events"):
        assert (await client.json("GET", "/healthz"))[0] == 200
        async with aiohttp.ClientSession() as other:
            with pytest.raises(aiohttp.ClientConnectionError):
                await other.get(f"http://127.0.0.1:{client.gateway.port}/healthz")
    async with aiohttp.ClientSession() as other:
        while True:
            try:
                async with other.get(f"http://127.0.0.1:{client.gateway.port}/healthz") as response:
                    assert response.status == 200
                    break
            except aiohttp.ClientConnectionError:  # the closed one may still be counted
                await asyncio.sleep(0.05)


async def test_a_slow_request_does_not_hold_its_connection(connect: Connect) -> None:
    client = await connect(keepalive_seconds=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.gateway.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionError):
        for number in range(100):
            writer.write(b"X-%d: y\r\n" % number)
            await writer.drain()
            await asyncio.sleep(0.05)
            if reader.at_eof():
                break
    assert number < 99
    writer.close()


async def test_bodies_too_large_or_too_deep_are_refused(connect: Connect) -> None:
    client = await connect(max_json_bytes=10_000)
    json_type = {"Content-Type": "application/json"}
    for body, status, reason in (
        (b'{"url": "' + b"x" * 10_000 + b'"}', 413, "TOO_LARGE"),
        (b'{"options": ' + b"[" * 4000 + b"]" * 4000 + b"}", 400, "BAD_REQUEST"),
        (b'{"options": ' + b'{"a":' * 1500 + b"1" + b"}" * 1500 + b"}", 400, "BAD_REQUEST"),
    ):
        assert await client.refused("POST", "/api/v1/tracks", data=body, headers=json_type) == (status, reason)
    async with client.http.get("/api/v1/tracks", headers={"X-Long": "x" * 20_000}) as response:
        assert response.status == 400
    async with client.http.get("/api/v1/tracks", params={"query": "x" * 20_000}) as response:
        assert response.status == 400
    assert (await client.json("GET", "/api/v1/tracks"))[0] == 200
