"""Operation of the gateway: health, metrics, logs, headers, settings, start and stop."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import structlog
from pydantic import ValidationError

from gateway.config import GatewaySection
from services.common.errors import Code
from tests.gateway.conftest import Client, Connect
from tests.gateway.suite import SESSIONS, TRACKS, Suite, token_of, until

ROOT = Path(__file__).parents[2]


async def test_health(client: Client) -> None:
    assert await client.json("GET", "/healthz") == (200, {"status": "ok"})
    assert await client.json("GET", "/readyz") == (200, {"status": "ready"})
    async with aiohttp.ClientSession() as session, session.get(f"{operators(client)}/readyz") as response:
        assert (await response.json())["services"] == {SESSIONS: "SERVING", TRACKS: "SERVING"}


async def test_it_is_not_ready_without_the_library(connect: Connect) -> None:
    client = await connect(address={"download": "127.0.0.1:1"})
    assert (await client.json("GET", "/healthz"))[0] == 200
    async with aiohttp.ClientSession() as session, session.get(f"{operators(client)}/readyz") as response:
        status, content = response.status, await response.json()
    assert (status, content["services"][SESSIONS]) == (503, "SERVING")
    assert content["services"][TRACKS] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert await client.json("GET", "/readyz") == (503, {"status": "not ready"})


def operators(client: Client) -> str:
    return f"http://127.0.0.1:{client.gateway.health_port}"


async def test_without_a_token_there_are_no_metrics_and_no_errors(client: Client) -> None:
    for path in ("/metrics", "/errors"):
        assert (await client.json("GET", path))[0] == 404
        async with aiohttp.ClientSession() as session, session.get(f"{operators(client)}{path}") as response:
            assert response.status == 200


async def test_metrics_can_be_turned_off(connect: Connect) -> None:
    client = await connect(health_listen="")
    assert client.gateway.health_port == 0
    assert (await client.json("GET", "/metrics"))[0] == 404
    assert (await client.json("GET", "/readyz"))[0] == 200


GARBAGE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "no method": b"\x00\x01 / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET / HTTP/9\r\nHost: a\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "bad length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "nothing there": b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "unknown method": b"BREW / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "unknown expectation": b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_no_answer_reveals_versions_or_code(client: Client, name: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.gateway.port)
    writer.write(GARBAGE[name])
    async with asyncio.timeout(30):
        answer = (await reader.read(65536)).decode(errors="replace")
    writer.close()
    assert not re.search(r"python|aiohttp|/\d+\.\d+ |traceback|\.py", answer.partition(" ")[2], re.IGNORECASE), answer


async def metric(client: Client, line: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{operators(client)}/metrics") as response:
        values = dict(text.rsplit(" ", 1) for text in (await response.text()).splitlines() if text[0] != "#")
    return float(values.get(line, 0))


async def test_requests_are_counted_by_route_not_by_path(client: Client) -> None:
    line = 'stemtube_http_requests_total{method="GET",route="/api/v1/tracks/{track_id}",status="404"}'
    before = await metric(client, line)
    for track in "abc":
        await client.json("GET", f"/api/v1/tracks/{track}")
    assert await metric(client, line) == before + 3
    await client.json("PROPFIND", "/no/such/route")
    await client.json("REPORT", "/no/such/route")
    assert await metric(client, 'stemtube_http_requests_total{method="OTHER",route="unmatched",status="404"}') >= 1


async def test_open_streams_are_counted(client: Client) -> None:
    line = 'stemtube_http_streams{kind="websocket"}'
    before = await metric(client, line)
    async with client.http.ws_connect("/api/v1/events") as socket:
        await socket.receive_json()
        assert await metric(client, line) == before + 1


async def test_one_log_line_per_request_and_no_secret_in_it(client: Client) -> None:
    with structlog.testing.capture_logs() as lines:
        headers = {"X-Request-Id": "r-1", "User-Agent": "Browser/1 (a\xe4)"}
        await client.json("GET", "/api/v1/tracks/a?colour=red", headers=headers)
    (line,) = [line for line in lines if line["event"] == "request"]
    assert {name: line[name] for name in ("method", "route", "path", "status")} == {
        "method": "GET",
        "route": "/api/v1/tracks/{track_id}",
        "path": "/api/v1/tracks/a",
        "status": 400,
    }
    assert line["ms"] >= 0
    assert line["agent"] == "Browser/1 (a)"
    assert token_of("ann")[:20] not in str(lines)


@pytest.mark.parametrize("path", ["/", "/api/docs", "/api/v1/tracks", "/nowhere", "/healthz"])
async def test_headers_that_browsers_obey(client: Client, path: str) -> None:
    async with client.http.get(path) as response:
        headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    # If the page is built, browsers may cache it, but must revalidate it.
    assert headers["Cache-Control"] in ("no-store", *(["no-cache"] if path == "/" else []))
    assert headers["X-Request-Id"]
    assert "aiohttp" not in headers["Server"]
    assert "Access-Control-Allow-Origin" not in headers


async def test_malformed_http_is_answered_without_a_page_or_a_traceback(client: Client) -> None:
    garbage = (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"\r\n" * 99)
    for request in garbage:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.gateway.port)
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        assert b"Traceback" not in answer
        assert b"<html" not in answer
        assert b"aiohttp" not in answer
        head, _, body = answer.partition(b"\r\n\r\n")
        assert not head or (head.startswith(b"HTTP/1.") and json.loads(body)["code"] == Code.INVALID_ARGUMENT)
    assert (await client.json("GET", "/healthz"))[0] == 200


ABANDONED = {
    "gone": b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    "spoiled body": b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\nContent-Length: 40\r\n\r\n",
}


@pytest.mark.parametrize("kind", ABANDONED)
async def test_disconnects_and_malformed_bodies_do_not_fill_the_log(
    client: Client, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.gateway.port)
        writer.write(ABANDONED[kind])
        if kind == "spoiled body":
            assert (await reader.readline()).startswith(b"HTTP/1.1 404")
            writer.write(bytes(20))
        writer.write_eof()
        await reader.read()
        writer.close()
        assert (await client.json("GET", "/healthz"))[0] == 200
    assert [line for line in lines if line["log_level"] == "error"] == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    "wrong", [{"listen": "nowhere"}, {"public_url": "stems.example.org"}, {"allowed_origins": ("https://a/b",)}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GatewaySection.model_validate(wrong)


async def test_the_process_starts_serves_and_stops_in_order(suite: Suite, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "protos" / "gen"))),
        "STEMTUBE_DATA_DIR": str(tmp_path),
        "STEMTUBE_GATEWAY__LISTEN": f"127.0.0.1:{port}",
        "STEMTUBE_ADDRESS__AUTH": suite.address("auth"),
        "STEMTUBE_ADDRESS__DOWNLOAD": suite.address("download"),
    }
    command = (sys.executable, "-m", "gateway")
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
    try:
        headers = {"Authorization": f"Bearer {token_of('ann')}"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as http:
            await _until_up(http)
            sockets = [await http.ws_connect("/api/v1/events") for _ in range(3)]
            stream = await http.get("/api/v1/events", headers={"Accept": "text/event-stream"})
            await until(lambda: suite.library.watchers == 4)
            second = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
            _, errors = await second.communicate()
            assert (second.returncode, b"Traceback" in errors) == (1, False)
            process.send_signal(signal.SIGTERM)
            for ws in sockets:
                await ws.receive()
                await ws.receive()
                assert ws.close_code == 1012
            await stream.read()
            async with asyncio.timeout(5):
                _, errors = await process.communicate()
        assert (process.returncode, b"Traceback" in errors) == (0, False)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_up(http: aiohttp.ClientSession) -> None:
    for _ in range(200):
        try:
            async with http.get("/healthz"):
                return
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.05)
    raise TimeoutError


async def test_help_lists_every_setting_of_the_gateway() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "protos" / "gen")))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "--help"), env=environment, stdout=subprocess.PIPE
    )
    text, _ = await process.communicate()
    assert process.returncode == 0
    for name in GatewaySection.model_fields:
        assert f"STEMTUBE_GATEWAY__{name.upper()}=" in text.decode()
