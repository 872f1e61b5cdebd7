import asyncio
import contextlib
import os
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import grpc
import grpc.aio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.config import NetworkSettings
from services.common.errors import Code, InvalidInputError, LimitExceededError, NotFoundError, UnavailableError
from services.common.rpc import server as server_module
from services.common.rpc.auth import TokenVerifier, bearer, caller
from services.common.rpc.client import RemoteError, domain_error, final_answer, open_channel
from services.common.rpc.server import (
    MAX_CONCURRENT_STREAMS,
    MAX_MESSAGE_BYTES,
    MAX_METADATA_BYTES,
    Draining,
    RunningServer,
    Service,
    error_status,
    start,
)

ROOT = Path(__file__).resolve().parents[3]
KEY = Ed25519PrivateKey.generate()


def token(user: str = "u1", session: str = "") -> str:
    now = int(time.time())
    claims = {"iss": "stemtube-auth", "aud": "stemtube", "sub": user, "kind": "user", "iat": now, "exp": now + 3600}
    claims["sid"] = session
    return jwt.encode(claims, KEY, algorithm="EdDSA", headers={"kid": "k1"})


TOKEN = bearer(token())


class Echo:
    """A service with one RPC of each kind, without a contract: each takes and gives strings."""

    def __init__(self) -> None:
        self.draining = Draining()
        self.calls = 0
        self.open_streams = 0
        self.ended: set[str] = set()

    async def ended_sessions(self) -> frozenset[str]:
        return frozenset(self.ended)

    async def say(self, request: StringValue, _context: Any) -> StringValue:
        self.calls += 1
        match request.value.partition(" "):
            case ["who", _, _]:
                await asyncio.sleep(0.01)
                return StringValue(value=caller().subject)
            case ["sleep", _, seconds]:
                await asyncio.sleep(float(seconds))
            case ["missing", _, _]:
                raise NotFoundError("Für „Zoë“ gibt es nichts\n(100 %).", "NO_SUCH_TRACK", track="t1")
            case ["fault", _, password]:
                raise RuntimeError(f"hidden detail {len(password)}")
            case ["later", _, times] if self.calls < int(times):
                raise UnavailableError("not yet")
        return request

    async def anybody(self, request: StringValue, _context: Any) -> StringValue:
        return request

    async def repeat(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        yield request
        if request.value == "fail":
            raise LimitExceededError("Enough.", "TOO_MANY")
        yield request

    async def follow(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        async for update in self.draining.watch(self.updates(request)):
            yield update

    async def updates(self, request: StringValue) -> Any:
        self.open_streams += 1
        try:
            yield request
            await asyncio.sleep(60)
        finally:
            self.open_streams -= 1

    async def join(self, requests: AsyncIterator[StringValue], _context: Any) -> StringValue:
        self.open_streams += 1
        try:
            return StringValue(value="".join([request.value async for request in requests]))
        finally:
            self.open_streams -= 1

    async def chat(self, requests: AsyncIterator[StringValue], _context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield StringValue(value=request.value.upper())

    def register(self, server: grpc.aio.Server) -> None:
        codec: dict[str, Any] = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Say": grpc.unary_unary_rpc_method_handler(self.say, **codec),
            "Any": grpc.unary_unary_rpc_method_handler(self.anybody, **codec),
            "Anybody": grpc.unary_unary_rpc_method_handler(self.anybody, **codec),
            "Repeat": grpc.unary_stream_rpc_method_handler(self.repeat, **codec),
            "Follow": grpc.unary_stream_rpc_method_handler(self.follow, **codec),
            "Join": grpc.stream_unary_rpc_method_handler(self.join, **codec),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat, **codec),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
        # The one method that clients never try twice, under its real name.
        auth = {"Refresh": handlers["Say"]}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("stemtube.auth.v1.AuthService", auth),))


class Client:
    """Calls an Echo."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def _codec(self) -> dict[str, Any]:
        return {"request_serializer": StringValue.SerializeToString, "response_deserializer": StringValue.FromString}

    async def say(self, value: str, method: str = "/test.Echo/Say", **options: Any) -> str:
        call = self.channel.unary_unary(method, **self._codec())
        options.setdefault("metadata", TOKEN)
        answer: StringValue = await call(StringValue(value=value), timeout=10, **options)
        return answer.value

    def stream(self, method: str, value: str, **options: Any) -> Any:
        call = self.channel.unary_stream(f"/test.Echo/{method}", **self._codec())
        options.setdefault("metadata", TOKEN)
        return call(StringValue(value=value), timeout=10, **options)

    async def join(self, *values: str, **options: Any) -> str:
        call = self.channel.stream_unary("/test.Echo/Join", **self._codec())
        options.setdefault("metadata", TOKEN)
        answer: StringValue = await final_answer(
            call((StringValue(value=value) for value in values), timeout=10, **options)
        )
        return answer.value

    def chat(self, *values: str, **options: Any) -> Any:
        call = self.channel.stream_stream("/test.Echo/Chat", **self._codec())
        options.setdefault("metadata", TOKEN)
        return call((StringValue(value=value) for value in values), timeout=10, **options)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def server(echo: Echo) -> AsyncIterator[RunningServer]:
    async def keys() -> Any:
        return {"k1": KEY.public_key()}

    service = Service("test.Echo", echo.register, public=("/test.Echo/Any",))
    running = await start(
        service,
        listen="127.0.0.1:0",
        health_listen="127.0.0.1:0",
        verifier=TokenVerifier(keys, echo.ended_sessions, refresh_seconds=0.1, retry_seconds=0.01),
        draining=echo.draining,
    )
    yield running
    await running.stop(0)


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        yield Client(channel)


async def texts(stream: Any) -> list[str]:
    return [message.value async for message in stream]


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


async def test_a_domain_error_arrives_with_code_message_and_reason(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("missing")
    error = domain_error(refusal.value)
    assert isinstance(error, RemoteError)
    assert error.code is Code.NOT_FOUND
    assert error.message == "Für „Zoë“ gibt es nichts\n(100 %)."
    assert error.reason == "NO_SUCH_TRACK"
    assert error.metadata == {"track": "t1"}


async def test_error_details_have_the_standard_form(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("missing")
    details = dict(refusal.value.trailing_metadata() or ())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    assert status.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("stemtube", "NO_SUCH_TRACK")


async def test_an_error_within_a_stream_comes_after_what_was_sent(client: Client) -> None:
    stream = client.stream("Repeat", "fail")
    assert (await stream.read()).value == "fail"
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stream.read()
    assert domain_error(refusal.value).reason == "TOO_MANY"


@pytest.mark.parametrize("text", ["x" * 100_000, "\U0001f3b8" * 50_000, "\0\r\n" * 20_000, "\ud800"])
async def test_an_error_that_repeats_any_text_is_an_answer(text: str) -> None:
    status = error_status(InvalidInputError(f"not {text}", "BAD_REQUEST", text=text))
    assert status.message.startswith("not ")
    # As metadata have it: percent-encoded, and once more in base64.
    assert len(quote(status.message)) + len(status.SerializeToString()) * 4 / 3 < MAX_METADATA_BYTES


async def test_a_fault_of_ours_is_internal_and_tells_nothing(client: Client, echo: Echo) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as fault:
        await client.say("fault hunter2")
    error = domain_error(fault.value)
    assert (error.code, error.reason) == (Code.INTERNAL, "INTERNAL")
    assert "hidden" not in f"{fault.value!r} {fault.value.trailing_metadata()}"
    assert await client.say("still here") == "still here"


async def test_an_error_without_details_has_its_code_as_reason(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("hello", "/test.Echo/Nothing")
    error = domain_error(refusal.value)
    assert (error.code, error.reason) == (Code.UNIMPLEMENTED, "UNIMPLEMENTED")


async def test_a_message_that_is_too_large_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("x" * (MAX_MESSAGE_BYTES + 1))
    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_clients_try_again_while_a_service_is_unavailable(client: Client, echo: Echo) -> None:
    assert await client.say("later 3") == "later 3"
    assert echo.calls == 3


async def test_clients_do_not_spend_a_refresh_token_twice(client: Client, echo: Echo) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.say("later 3", "/stemtube.auth.v1.AuthService/Refresh")
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


async def test_what_outlasts_the_grace_is_cancelled(client: Client, server: RunningServer) -> None:
    long = asyncio.create_task(client.say("sleep 60"))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await server.stop(0.2)
    assert time.monotonic() - started < 2
    with pytest.raises(grpc.aio.AioRpcError):
        await long


@pytest.mark.parametrize("method", ["Join", "Chat", "Follow"])
async def test_what_is_open_ends_with_its_session_whichever_side_speaks(
    client: Client, echo: Echo, method: str
) -> None:
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


async def test_a_user_asks_so_often_and_others_do_not_notice(strict: Client) -> None:
    for _ in range(4):
        await strict.say("hello")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await strict.say("hello")
    error = domain_error(refusal.value)
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS")
    assert 90 <= int(error.metadata["retry_after_seconds"]) <= 100
    assert await strict.say("hello", metadata=bearer(token("u2"))) == "hello"


async def test_strangers_are_counted_by_their_address(strict: Client) -> None:
    def ask(address: str) -> Any:
        return strict.say("hello", "/test.Echo/Any", metadata=(("x-client-address", address),))

    for host in range(4):
        await ask(f"2001:db8::{host}")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await ask("2001:db8::ffff")
    assert domain_error(refusal.value).reason == "TOO_MANY_REQUESTS"
    assert await ask("203.0.113.7") == "hello"


async def test_a_user_has_so_many_streams_open(strict: Client) -> None:
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


async def test_a_connection_has_so_many_streams_and_is_closed_if_it_pings_too_often(
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


async def test_a_connection_on_which_nothing_comes_is_closed(monkeypatch: pytest.MonkeyPatch, echo: Echo) -> None:
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


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_logs_hide_secrets_and_local_variables(log_format: str) -> None:
    program = f"""
import logging, structlog
from services.common.config import LogSettings
from services.common.observe.telemetry import configure_logging

configure_logging(LogSettings(format="{log_format}"), "tool")
log = structlog.get_logger("here")

def check(password):
    raise RuntimeError("a fault")

log.info("signing in", password="hunter" + "2", refresh_token=b"hunter" + b"2", user="ada")
logging.getLogger("library").warning("from a library")
log.debug("too much")
try:
    check("hunter" + "2")
except RuntimeError:
    log.exception("failed")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    for expected in ("signing in", "ada", "from a library", "tool", "a fault", "Traceback"):
        assert expected in done.stderr
    assert "too much" not in done.stderr
    # The traceback shows the lines of a program in a file; this one came as an argument.
    assert "hunter2" not in done.stderr
