"""Limits for users, callers without a token, and connections."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from services.common.config import NetworkSettings
from services.common.errors import Code
from services.common.rpc import server as server_module
from services.common.rpc.auth import TokenVerifier, bearer
from services.common.rpc.client import domain_error, open_channel
from services.common.rpc.server import (
    MAX_CONCURRENT_STREAMS,
    MAX_MESSAGE_BYTES,
    MAX_METADATA_BYTES,
    RunningServer,
    Service,
    start,
)
from tests.common.rpc.echo import KEY, TOKEN, Client, Echo, token


async def test_a_message_that_is_too_large_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("x" * (MAX_MESSAGE_BYTES + 1))
    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
async def strict(echo: Echo) -> AsyncIterator[Client]:
    """A client of a server with small limits."""

    async def keys() -> Any:
        return {"k1": KEY.public_key()}

    running = await start(
        Service("test.Echo", echo.register, public=("/test.Echo/Any",)),
        listen="127.0.0.1:0",
        health_listen="127.0.0.1:0",
        verifier=TokenVerifier(keys),
        draining=echo.draining,
        network=NetworkSettings(requests_per_second=0.01, request_burst=4, streams_per_user=2),
    )
    async with open_channel(f"127.0.0.1:{running.port}") as channel:
        yield Client(channel)
    await running.stop(0)


async def test_a_users_rate_is_limited_and_others_are_not_affected(strict: Client) -> None:
    for _ in range(4):
        await strict.say("hello")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await strict.say("hello")
    error = domain_error(refusal.value)
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS")
    assert 90 <= int(error.metadata["retry_after_seconds"]) <= 100
    assert await strict.say("hello", metadata=bearer(token("u2"))) == "hello"


async def test_callers_without_a_token_are_limited_by_address(strict: Client) -> None:
    def ask(address: str) -> Any:
        return strict.say("hello", "/test.Echo/Any", metadata=(("x-client-address", address),))

    for host in range(4):
        await ask(f"2001:db8::{host}")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await ask("2001:db8::ffff")
    assert domain_error(refusal.value).reason == "TOO_MANY_REQUESTS"
    assert await ask("203.0.113.7") == "hello"


async def test_a_users_open_streams_are_limited(strict: Client) -> None:
    streams = [strict.stream("Follow", "a") for _ in range(2)]
    for stream in streams:
        await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await strict.stream("Follow", "a").read()
    error = domain_error(refusal.value)
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    other = strict.stream("Follow", "a", metadata=bearer(token("u2")))
    assert (await other.read()).value == "a"
    other.cancel()
    for stream in streams:
        stream.cancel()


async def test_metadata_beyond_the_limit_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("hello", metadata=(*TOKEN, ("x-much", "x" * MAX_METADATA_BYTES)))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await client.say("still here") == "still here"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
MAX_CONCURRENT_STREAMS_ID, ENHANCE_YOUR_CALM = 3, 11


def http2_frame(kind: int, content: bytes = b"") -> bytes:
    """RFC 9113, section 4.1; of stream 0, without flags."""
    return len(content).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + content


async def next_http2_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(9)
    return head[3], await reader.readexactly(int.from_bytes(head[:3], "big"))


async def test_a_connections_streams_are_limited_and_frequent_pings_close_it(
    server: RunningServer, client: Client
) -> None:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(PREFACE + http2_frame(SETTINGS))
        kind, content = await next_http2_frame(reader)
        assert kind == SETTINGS
        settings = dict(struct.iter_unpack(">HI", content))
        assert settings[MAX_CONCURRENT_STREAMS_ID] == MAX_CONCURRENT_STREAMS
        writer.write(http2_frame(PING, bytes(8)) * 20)
        while kind != GOAWAY:
            kind, content = await next_http2_frame(reader)
        assert int.from_bytes(content[4:8], "big") == ENHANCE_YOUR_CALM
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(1000):
                pass
        writer.close()
    assert await client.say("others do not notice") == "others do not notice"


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch, echo: Echo) -> None:
    name = "grpc.server_handshake_timeout_ms"
    options = dict(server_module.SERVER_OPTIONS)
    assert options[name] <= 20_000
    monkeypatch.setattr(server_module, "SERVER_OPTIONS", tuple((options | {name: 500}).items()))

    async def keys() -> Any:
        return {}

    running = await start(
        Service("test.Echo", echo.register),
        listen="127.0.0.1:0",
        health_listen="127.0.0.1:0",
        verifier=TokenVerifier(keys),
        draining=echo.draining,
    )
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(PREFACE[:10])
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(1000):
                pass
        writer.close()
    await running.stop(0)
