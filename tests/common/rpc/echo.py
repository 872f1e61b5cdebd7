"""A service with an RPC of each kind, and a client of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.wrappers_pb2 import StringValue

from services.common.errors import LimitExceededError, NotFoundError, UnavailableError
from services.common.rpc.auth import bearer, caller
from services.common.rpc.client import final_answer
from services.common.rpc.draining import Draining

KEY = Ed25519PrivateKey.generate()


def token(user: str = "u1", session: str = "") -> str:
    now = int(time.time())
    claims = {"iss": "stemtube-auth", "aud": "stemtube", "sub": user, "kind": "user", "iat": now, "exp": now + 3600}
    claims["sid"] = session
    return jwt.encode(claims, KEY, algorithm="EdDSA", headers={"kid": "k1"})


TOKEN = bearer(token())


class Echo:
    """A service with one RPC of each kind, without a contract: each takes and returns strings."""

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
        # The only method that clients never retry, under its real name.
        auth = {"Refresh": handlers["Say"]}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("stemtube.auth.v1.SessionService", auth),)
        )


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


async def texts(stream: Any) -> list[str]:
    return [message.value async for message in stream]
