"""What each server does with an RPC: who may call, what is answered, health, reflection and metrics."""

import asyncio
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.errors import Code
from services.common.rpc.auth import TokenVerifier, bearer
from services.common.rpc.client import domain_error
from services.common.rpc.draining import Draining
from services.common.rpc.server import RunningServer, Service, start
from tests.common.rpc.echo import TOKEN, Client, Echo, texts, token


async def test_every_kind_of_rpc_answers_who_has_a_token(client: Client) -> None:
    assert await client.say("hello") == "hello"
    assert await texts(client.stream("Repeat", "a")) == ["a", "a"]
    assert await client.join("a", "b") == "ab"
    assert await texts(client.chat("a", "b")) == ["A", "B"]


@pytest.mark.parametrize(
    "metadata", [(), (("authorization", ""),), (("authorization", "Basic YTpi"),), bearer(""), bearer("x.y.z")]
)
async def test_every_kind_of_rpc_refuses_who_has_none(client: Client, metadata: Any) -> None:
    calls = [
        client.say("hello", metadata=metadata),
        texts(client.stream("Repeat", "a", metadata=metadata)),
        client.join("a", metadata=metadata),
        texts(client.chat(metadata=metadata)),  # nothing is written, which could fail and hide the status (grpc#36066)
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call
        assert refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_what_is_no_message_is_refused_after_who_calls_is_known(client: Client) -> None:
    def calls(metadata: Any) -> list[Any]:
        options = {"metadata": metadata, "timeout": 10}
        garbage = b"\x0a\xff"
        channel: Any = client.channel
        return [
            channel.unary_unary("/test.Echo/Say")(garbage, **options),
            texts(channel.unary_stream("/test.Echo/Repeat")(garbage, **options)),
            channel.stream_unary("/test.Echo/Join")(iter([garbage]), **options),
            texts(channel.stream_stream("/test.Echo/Chat")(iter([garbage]), **options)),
        ]

    for metadata, code, reason in (
        (TOKEN, Code.INVALID_ARGUMENT, "BAD_REQUEST"),
        ((), Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
    ):
        for call in calls(metadata):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call
            error = domain_error(refusal.value)
            assert (error.code, error.reason) == (code, reason)


async def test_a_public_name_makes_no_longer_name_public(client: Client) -> None:
    assert await client.say("hello", "/test.Echo/Any", metadata=()) == "hello"
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("hello", "/test.Echo/Anybody", metadata=())
    assert refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_callers_of_concurrent_rpcs_are_not_mixed_up(client: Client) -> None:
    users = [f"user-{number}" for number in range(20)]
    assert await asyncio.gather(*(client.say("who", metadata=bearer(token(user))) for user in users)) == users
    with pytest.raises(grpc.aio.AioRpcError):
        await client.say("who", metadata=())


async def test_clients_try_again_while_a_service_is_unavailable(client: Client, echo: Echo) -> None:
    assert await client.say("later 3") == "later 3"
    assert echo.calls == 3


async def test_clients_do_not_spend_a_refresh_token_twice(client: Client, echo: Echo) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("later 3", "/stemtube.auth.v1.SessionService/Refresh")
    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
    assert echo.calls == 1


async def test_health_and_reflection_need_no_token(client: Client) -> None:
    health: Any = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", "test.Echo"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await health.Check(health_pb2.HealthCheckRequest(service="other"))
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND

    channel: Any = client.channel
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = [answer async for answer in reflection.ServerReflectionInfo(iter([request]))]
    names = [service.name for service in answers[0].list_services_response.service]
    assert "test.Echo" in names


async def test_http_shows_health_and_metrics(client: Client, server: RunningServer) -> None:
    await client.say("hello")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.health_port}") as http:
        assert (await http.get("/healthz")).status == 200
        assert (await http.get("/readyz")).status == 200
        metrics = await (await http.get("/metrics")).text()
    assert 'stemtube_rpcs_total{code="OK",method="/test.Echo/Say"}' in metrics


async def test_a_taken_address_is_an_error(server: RunningServer, echo: Echo) -> None:
    async def keys() -> Any:
        return {}

    for listen, health_listen in ((server.port, 0), (0, server.health_port)):
        with pytest.raises(OSError, match=r"127\.0\.0\.1"):
            await start(
                Service("test.Echo", Echo().register),
                listen=f"127.0.0.1:{listen}",
                health_listen=f"127.0.0.1:{health_listen}",
                verifier=TokenVerifier(keys),
                draining=Draining(),
            )
