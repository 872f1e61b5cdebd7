"""Streams of a service over WebSockets and as server-sent events."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from gateway.streams.events import Outbox
from stemtube.download.v1 import track_job_pb2
from tests.gateway.conftest import Client, Connect
from tests.gateway.suite import token_of, until


async def new_job(client: Client) -> str:
    _, created = await client.json("POST", "/api/v1/tracks", json={"url": "https://example.org"})
    return str(created["job"]["job"]["id"])


async def rest_of(socket: aiohttp.ClientWebSocketResponse) -> tuple[list[Any], int | None]:
    """The messages until the socket closes, and its close code."""
    messages = []
    async with asyncio.timeout(10):
        while (message := await socket.receive()).type is WSMsgType.TEXT:
            messages.append(json.loads(message.data))
    return messages, socket.close_code


async def test_a_job_is_followed_to_its_end(client: Client) -> None:
    job_id = await new_job(client)
    async with client.http.ws_connect(f"/api/v1/jobs/{job_id}/watch") as socket:
        assert (await socket.receive_json())["job"]["job"]["state"] == "JOB_STATE_QUEUED"
        for progress in (0.25, 0.5, 1.0):
            await client.suite.library.set_progress(job_id, progress)
            assert (await socket.receive_json())["job"]["job"]["progress"] == progress
        assert await rest_of(socket) == ([], 1000)


async def test_events_begin_with_a_snapshot_and_end_when_the_client_leaves(client: Client) -> None:
    job_id = await new_job(client)
    async with client.http.ws_connect("/api/v1/events") as socket:
        assert (await socket.receive_json())["job"]["job"]["id"] == job_id
        assert await socket.receive_json() == {"snapshotEnd": {}}
        changed = track_job_pb2.TrackChanged(track_id="t", part="beats")
        await client.suite.library.events.put(track_job_pb2.WatchEventsResponse(track_changed=changed))
        assert await socket.receive_json() == {"trackChanged": {"trackId": "t", "part": "beats"}}
        assert client.suite.library.watchers == 1
    await until(lambda: client.suite.library.watchers == 0)


async def test_a_broken_connection_ends_the_rpc(client: Client) -> None:
    socket = await client.http.ws_connect("/api/v1/events")
    await socket.receive_json()
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.abort()
    await until(lambda: client.suite.library.watchers == 0)


@pytest.mark.parametrize(
    ("path", "user", "code", "reason"),
    [
        ("/api/v1/jobs/none/watch", "ann", 4005, "NO_SUCH_JOB"),
        ("/api/v1/jobs/none/watch?colour=red", "ann", 4003, "BAD_REQUEST"),
        ("/api/v1/events", None, 4016, "UNAUTHENTICATED"),
    ],
)
async def test_an_error_is_in_a_message_and_in_the_close_code(
    connect: Connect, path: str, user: str | None, code: int, reason: str
) -> None:
    client = await connect(user=user)
    async with client.http.ws_connect(path) as socket:
        messages, close_code = await rest_of(socket)
    assert close_code == code
    assert [message["error"]["details"][0]["reason"] for message in messages] == [reason]
    assert messages[0]["error"]["code"] == code - 4000


async def test_a_draining_service_makes_clients_reconnect(client: Client) -> None:
    job_id = await new_job(client)
    async with client.http.ws_connect(f"/api/v1/jobs/{job_id}/watch") as socket:
        await socket.receive_json()
        client.suite.library.draining.start()
        assert await rest_of(socket) == ([], 1012)


async def test_an_unavailable_service_makes_clients_try_later(connect: Connect) -> None:
    client = await connect(address={"download": "127.0.0.1:1"})
    async with client.http.ws_connect("/api/v1/events") as socket:
        assert await rest_of(socket) == ([], 1013)


async def test_a_stopping_gateway_makes_clients_connect_elsewhere(connect: Connect) -> None:
    client = await connect(shutdown_seconds=3.0)
    sockets = [await client.http.ws_connect("/api/v1/events") for _ in range(20)]
    for socket in sockets:
        await socket.receive_json()
    stopping = asyncio.create_task(client.gateway.stop())
    assert {(await rest_of(socket))[1] for socket in sockets} == {1012}
    async with asyncio.timeout(2):
        await stopping
    assert client.suite.library.watchers == 0


async def test_a_stream_has_a_maximum_age(connect: Connect) -> None:
    client = await connect(stream_seconds=0.2)
    async with client.http.ws_connect("/api/v1/events") as socket:
        assert await rest_of(socket) == ([{"snapshotEnd": {}}], 1012)


async def test_a_browser_is_identified_by_its_cookie(connect: Connect) -> None:
    client = await connect(user=None)
    cookie = {"Cookie": f"stemtube_access={token_of('ann')}"}
    async with client.http.ws_connect("/api/v1/events", headers=cookie) as socket:
        assert await socket.receive_json() == {"snapshotEnd": {}}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("own", True),
        ("https://app.example.org", True),
        ("https://stems.example.org", True),
        ("https://evil.example", False),
        ("null", False),
        ("http://[", False),
        ("http://127.0.0.1:1", False),
    ],
)
async def test_only_our_own_pages_may_open_sockets_and_write(connect: Connect, origin: str, allowed: bool) -> None:
    client = await connect(public_url="https://stems.example.org/", allowed_origins=("https://app.example.org",))
    headers = {"Origin": f"http://127.0.0.1:{client.gateway.port}" if origin == "own" else origin}
    status, _ = await client.json("POST", "/api/v1/tracks", json={"url": "https://example.org"}, headers=headers)
    assert status == (200 if allowed else 403)
    if allowed:
        async with client.http.ws_connect("/api/v1/events", headers=headers) as socket:
            await socket.receive_json()
    else:
        with pytest.raises(WSServerHandshakeError, match="403"):
            await client.http.ws_connect("/api/v1/events", headers=headers)
    # Reading is harmless: without permission (CORS) the page does not see the answer.
    assert (await client.json("GET", "/api/v1/tracks", headers=headers))[0] == 200


async def test_a_client_that_does_not_read_is_dropped(connect: Connect) -> None:
    client = await connect(max_buffered_events=50, max_buffered_event_bytes=200_000)
    _reader, writer = await asyncio.open_connection("127.0.0.1", client.gateway.port, limit=1024)
    request = (
        "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {token_of('ann')}\r\n\r\n"
    )
    writer.write(request.encode())
    await until(lambda: client.suite.library.watchers == 1)
    library = client.suite.library
    large = track_job_pb2.WatchEventsResponse(job=track_job_pb2.TrackJob(track_id="x" * 100_000))
    for _ in range(2000):
        library.events.put_nowait(large)
    await until(lambda: library.watchers == 0, 20)
    # The kernel's buffers and gRPC's window take some megabytes; the gateway itself holds only its bound.
    assert library.events.qsize() > 1700
    writer.close()


async def test_the_heartbeat_detects_a_silent_client(connect: Connect) -> None:
    client = await connect(heartbeat_seconds=0.2)
    socket = await client.http.ws_connect("/api/v1/events", autoping=False)
    assert await socket.receive_json() == {"snapshotEnd": {}}
    await until(lambda: client.suite.library.watchers == 0)


async def test_heartbeats_keep_a_quiet_socket_open(connect: Connect) -> None:
    client = await connect(heartbeat_seconds=0.1)
    async with client.http.ws_connect("/api/v1/events") as socket:
        await socket.receive_json()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await socket.receive()
    await until(lambda: client.suite.library.watchers == 0)


SSE = {"Accept": "text/event-stream"}


async def test_server_sent_events(client: Client) -> None:
    job_id = await new_job(client)
    async with client.http.get(f"/api/v1/jobs/{job_id}/watch", headers=SSE) as response:
        assert response.content_type == "text/event-stream"
        first = await response.content.readuntil(b"\n\n")
        assert json.loads(first.removeprefix(b"data: "))["job"]["job"]["state"] == "JOB_STATE_QUEUED"
        await client.suite.library.set_progress(job_id, 1.0)
        rest = (await response.content.read()).decode()
    state, end = rest.removesuffix("\n\n").split("\n\n")
    assert json.loads(state.removeprefix("data: "))["job"]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert end == "event: end\ndata: {}"


async def test_server_sent_events_that_cannot_begin_are_http_errors(client: Client) -> None:
    assert await client.refused("GET", "/api/v1/jobs/none/watch", headers=SSE) == (404, "NO_SUCH_JOB")


async def test_server_sent_events_have_heartbeats_and_end_with_gateway_or_client(connect: Connect) -> None:
    client = await connect(heartbeat_seconds=0.05)
    async with client.http.get("/api/v1/events", headers=SSE) as response:
        assert await response.content.readuntil(b"\n\n") == b'data: {"snapshotEnd": {}}\n\n'
        assert await response.content.readuntil(b"\n\n") == b": still here\n\n"
        response.close()
    await until(lambda: client.suite.library.watchers == 0)
    async with client.http.get("/api/v1/events", headers=SSE) as response:
        await response.content.readuntil(b"\n\n")
        stopping = asyncio.create_task(client.gateway.stop())
        await response.content.read()
        await stopping


async def test_an_outbox_is_limited_in_number_and_size() -> None:
    outbox = Outbox(max_messages=2, max_bytes=10)
    assert outbox.put("a")
    assert outbox.put("b")
    assert not outbox.put("c")
    outbox = Outbox(max_messages=9, max_bytes=10)
    assert outbox.put("x" * 100)  # a single message always fits, because it is already in memory
    assert not outbox.put("y")
    assert (await outbox.overflow()).close_code == 1013
