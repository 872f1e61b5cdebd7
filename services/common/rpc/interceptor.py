"""Wraps every RPC: authentication, limits, errors, logs, metrics and traces."""

import asyncio
import contextlib
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from services.common.config import NetworkSettings
from services.common.errors import (
    Code,
    InternalError,
    InvalidInputError,
    StemTubeError,
    UnauthenticatedError,
)
from services.common.observe import request_context, telemetry, tracing
from services.common.rpc import peers
from services.common.rpc.auth import Identity, TokenVerifier, require_scope, set_caller
from services.common.rpc.draining import unless, until
from services.common.rpc.limits import Slots, TokenBuckets
from services.common.rpc.statuses import error_status

log = structlog.get_logger(__name__)

ALWAYS_PUBLIC = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
# Called regularly without a request: services call those of auth every half minute.
UNTRACED = (
    *ALWAYS_PUBLIC,
    "/stemtube.auth.v1.AccessTokenService/IssueServiceToken",
    "/stemtube.auth.v1.AccessTokenService/ListSigningKeys",
    "/stemtube.auth.v1.SessionService/ListEndedSessions",
)


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates each RPC, applies limits, turns errors into statuses, logs and counts.

    Args:
        verifier: checks access tokens.
        network: the limits of users, and the proxies that are trusted.
        public: full names of the methods that need no token.
        scopes: by full name of a method, the scopes of restricted tokens that it accepts; see `Service`.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        network: NetworkSettings,
        public: Iterable[str],
        scopes: Mapping[str, frozenset[str]],
    ) -> None:
        self._verifier = verifier
        self._public = frozenset(public)
        self._scopes = scopes
        self._proxies = peers.TrustedProxies(network.trusted_proxies)
        self._requests = TokenBuckets(network.requests_per_second, network.request_burst)
        self._streams = Slots(network.streams_per_user)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one RPC."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        metadata = {key: str(value) for key, value in handler_call_details.invocation_metadata or ()}

        if handler.response_streaming:

            async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
                async with _statuses(method, metadata, context):
                    identity = await self._begin(method, metadata, context)
                    responses = behaviour(_parsed(handler, request), context)
                    if inspect.isawaitable(responses):  # it writes to the context itself, like the health service
                        await responses
                        return
                    if identity is None:
                        async with contextlib.aclosing(responses):
                            async for response in responses:
                                yield response
                        return
                    with self._slot(identity):
                        async with contextlib.aclosing(
                            until(responses, self._verifier.until_ended(identity))
                        ) as lasting:
                            async for response in lasting:
                                yield response

            wrap = grpc.stream_stream_rpc_method_handler if handler.request_streaming else None
            return (wrap or grpc.unary_stream_rpc_method_handler)(stream, None, handler.response_serializer)

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            async with _statuses(method, metadata, context, timed=not handler.request_streaming):
                identity = await self._begin(method, metadata, context)
                work = behaviour(_parsed(handler, request), context)
                if identity and handler.request_streaming:
                    return await unless(work, self._verifier.until_ended(identity))
                return await work

        wrap = grpc.stream_unary_rpc_method_handler if handler.request_streaming else None
        return (wrap or grpc.unary_unary_rpc_method_handler)(answer, None, handler.response_serializer)

    async def _begin(
        self, method: str, metadata: Mapping[str, str], context: grpc.aio.ServicerContext[Any, Any]
    ) -> Identity | None:
        """Identifies the caller and checks its rights; None in public RPCs."""
        structlog.contextvars.bind_contextvars(request=uuid.uuid4().hex, rpc=method)
        request_context.bind(metadata)
        if method.startswith(ALWAYS_PUBLIC):
            return None
        client = self._client(metadata, context)
        peers.set_client(client)
        if method in self._public:
            if client.network:
                self._requests.take(client.network)
            return None
        identity = await self._authenticate(metadata.get("authorization", ""))
        structlog.contextvars.bind_contextvars(caller=identity.subject)
        if identity.kind == "user":
            self._requests.take(identity.subject)
            require_scope(identity, method, self._scopes)
        set_caller(identity)
        return identity

    def _client(self, metadata: Mapping[str, str], context: grpc.aio.ServicerContext[Any, Any]) -> peers.Client:
        peer = peers.grpc_peer(context.peer())
        # A gateway reports the address of its client; the peer of the connection is only the gateway.
        reported = peers.valid_address(metadata.get(peers.ADDRESS_KEY, ""))
        name = metadata.get(peers.CLIENT_KEY) or metadata.get("user-agent", "")
        return peers.Client(reported if self._proxies.trusts(peer) else peer, name[: peers.MAX_CLIENT_NAME])

    def _slot(self, identity: Identity) -> contextlib.AbstractContextManager[None]:
        return self._streams.slot(identity.subject) if identity.kind == "user" else contextlib.nullcontext()

    async def _authenticate(self, authorization: str) -> Identity:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("This needs a valid access token.")
        return await self._verifier.verify(token)


def _parsed(handler: Any, request: Any) -> Any:
    """Parses the request for its handler: a message, or an iterator of messages.

    gRPC itself would parse before authentication, and answer UNKNOWN with Python's error text.

    Raises (or the iterator does):
        InvalidInputError: the bytes are not such a message (reason BAD_REQUEST).
    """

    def parse(content: bytes) -> Any:
        try:
            return handler.request_deserializer(content)
        except DecodeError:
            raise InvalidInputError("The request is not the message that this RPC takes.", "BAD_REQUEST") from None

    async def parse_all(contents: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for content in contents:
            yield parse(content)

    return parse_all(request) if handler.request_streaming else parse(request)


@contextlib.asynccontextmanager
async def _statuses(
    method: str, metadata: Mapping[str, str], context: grpc.aio.ServicerContext[Any, Any], timed: bool = False
) -> AsyncIterator[None]:
    started = time.perf_counter()
    code = "OK"
    refusal: StemTubeError | None = None
    with _span(method, metadata) as span:
        try:
            yield
        except StemTubeError as error:
            code = error.code.name
            tracing.mark_failed(span, error.reason)
            log.info("refused", code=code, reason=error.reason, detail=error.message)
            refusal = error
        except (asyncio.CancelledError, GeneratorExit):
            code = Code.CANCELLED.name
            raise
        except grpc.aio.AbortError:
            code = Code.UNKNOWN.name
            raise
        # A servicer's bug: the caller gets INTERNAL without details, the log gets the traceback.
        except Exception:
            code = Code.INTERNAL.name
            tracing.mark_failed(span, code)
            log.exception("an RPC ended with an unexpected error")
            refusal = InternalError("Something went wrong here; the server's log tells more.")
        finally:
            span.set_attribute("rpc.response.status_code", code)
            telemetry.RPCS.labels(method, code).inc()
            if timed:
                telemetry.RPC_SECONDS.labels(method).observe(time.perf_counter() - started)
    if refusal:
        await _abort(context, refusal)


def _span(method: str, metadata: Mapping[str, str]) -> contextlib.AbstractContextManager[tracing.Span]:
    """The span of an RPC; none for RPCs that services call regularly."""
    if method.startswith(UNTRACED):
        return tracing.NO_SPAN
    name, parent = method.lstrip("/"), metadata.get(request_context.TRACE_KEY, "")
    return tracing.span(name, kind=tracing.SpanKind.SERVER, parent=parent, **{"rpc.method": name})


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: StemTubeError) -> None:
    status = rpc_status.to_status(error_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
