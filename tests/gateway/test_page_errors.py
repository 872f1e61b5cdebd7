"""Errors of the page in a browser, as the gateway logs them."""

import json
from typing import Any

import pytest
import structlog

from tests.gateway.conftest import Client, Connect

PATH = "/api/v1/page/errors"
ERROR = {"kind": "error", "message": "TypeError: x is undefined", "stack": "TypeError\n  at a.js:1", "page": "/songs/a"}


@pytest.fixture
async def stranger(connect: Connect) -> Client:
    return await connect(user=None)


async def report(client: Client, error: dict[str, Any], **headers: str) -> int:
    async with client.http.post(PATH, json=error, headers=headers) as answer:
        return answer.status


async def test_an_error_is_logged_with_page_browser_and_request(stranger: Client) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        where = {"page": "/songs/a?q=secret#b", "message": ERROR["message"] + "\x1b[2J"}
        assert await report(stranger, ERROR | where, **{"User-Agent": "Browser/1", "X-Request-Id": "r-7"}) == 204
    (line,) = (line for line in lines if line["event"] == "page error")
    assert line["log_level"] == "warning"
    assert (line["kind"], line["page"], line["thrown_at"]) == ("error", "/songs/a", ERROR["stack"])
    assert line["message"] == ERROR["message"] + "[2J"
    assert (line["agent"], line["request"]) == ("Browser/1", "r-7")
    assert "secret" not in str(lines)


async def test_the_operator_chooses_the_level_or_none(connect: Connect) -> None:
    client = await connect(user=None, page_errors="error")
    with structlog.testing.capture_logs() as lines:
        assert await report(client, ERROR) == 204
    assert [line["log_level"] for line in lines if line["event"] == "page error"] == ["error"]
    off = await connect(user=None, page_errors="off")
    assert await off.refused("POST", PATH, json=ERROR) == (404, "PAGE_ERRORS_OFF")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "joke"},
        {"message": 7},
        {"message": "m" * 1001},
        {"page": None},
        {"colour": "red"},
    ],
)
async def test_a_malformed_error_is_refused(stranger: Client, wrong: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as lines:
        assert await stranger.refused("POST", PATH, json=ERROR | wrong) == (400, "BAD_REQUEST")
    assert not [line for line in lines if line["event"] == "page error"]


async def test_a_large_error_is_refused(stranger: Client) -> None:
    body = json.dumps(ERROR).encode() + b" " * 17_000

    async def pieces() -> Any:
        yield body

    for data in (body, pieces()):
        answer = await stranger.refused("POST", PATH, data=data, headers={"Content-Type": "application/json"})
        assert answer == (413, "TOO_LARGE")


async def test_reports_from_an_address_are_limited(connect: Connect) -> None:
    client = await connect(user=None, trusted_proxies=("127.0.0.0/8",))

    async def from_address(address: str) -> int:
        return await report(client, ERROR, **{"X-Forwarded-For": address})

    assert {await from_address("192.0.2.1") for _ in range(20)} == {204}
    assert await from_address("192.0.2.1") == 429
    assert await from_address("192.0.2.2") == 204
    for number in range(79):
        assert await from_address(f"198.51.100.{number}") == 204
    statuses = [await from_address(f"203.0.113.{number}") for number in range(20)]
    assert 429 in statuses, "all addresses together have a limit, too"


async def test_pages_of_other_sites_cannot_report_errors(stranger: Client) -> None:
    headers = {"Origin": "https://evil.example"}
    assert await stranger.refused("POST", PATH, json=ERROR, headers=headers) == (403, "BAD_ORIGIN")
