"""Streams end when the server drains, when the session ends, or when the client goes away."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.errors import Code
from services.common.rpc.auth import bearer
from services.common.rpc.client import domain_error
from services.common.rpc.server import (
    RunningServer,
)
from tests.common.rpc.echo import Client, Echo, token


async def test_a_draining_server_ends_streams_and_finishes_short_rpcs(
    client: Client, server: RunningServer, echo: Echo
) -> None:
    health: Any = health_pb2_grpc.HealthStub(client.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    stream = client.stream("Follow", "a")
    assert (await stream.read()).value == "a"
    short = asyncio.create_task(client.say("sleep 0.3"))
    await asyncio.sleep(0.1)

    stopping = asyncio.create_task(server.stop(1))
    with pytest.raises(grpc.aio.AioRpcError) as end:
        await stream.read()
    assert domain_error(end.value).reason == "DRAINING"
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    assert await short == "sleep 0.3"
    await stopping
    assert echo.open_streams == 0


async def test_rpcs_that_outlast_the_grace_are_cancelled(client: Client, server: RunningServer) -> None:
    long = asyncio.create_task(client.say("sleep 60"))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await server.stop(0.2)
    assert time.monotonic() - started < 2
    with pytest.raises(grpc.aio.AioRpcError):
        await long


@pytest.mark.parametrize("method", ["Join", "Chat", "Follow"])
async def test_streams_in_both_directions_end_with_their_session(client: Client, echo: Echo, method: str) -> None:
    silence = asyncio.Event()

    async def requests() -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        await silence.wait()

    metadata = bearer(token(session="s1"))
    if method == "Follow":
        call = client.stream("Follow", "first", metadata=metadata)
    else:
        kind = client.channel.stream_unary if method == "Join" else client.channel.stream_stream
        call = kind(f"/test.Echo/{method}", **client._codec())(requests(), metadata=metadata, timeout=30)
    if method == "Join":
        async with asyncio.timeout(20):
            while not echo.open_streams:
                await asyncio.sleep(0.01)
    else:
        await call.read()
    echo.ended.add("s1")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (call if method == "Join" else call.read())
    error = domain_error(refused.value)
    assert (error.code, error.reason) == (Code.UNAUTHENTICATED, "SESSION_ENDED")
    assert echo.open_streams == 0
    silence.set()
    assert await client.join("a", "b", metadata=bearer(token(session="s2"))) == "ab"


async def test_a_client_that_goes_away_ends_its_stream(client: Client, echo: Echo) -> None:
    stream = client.stream("Follow", "a")
    await stream.read()
    assert echo.open_streams == 1
    stream.cancel()
    for _ in range(100):
        if echo.open_streams == 0:
            break
        await asyncio.sleep(0.02)
    assert echo.open_streams == 0
