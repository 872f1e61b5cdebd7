"""A gRPC server as all services run it: authentication, errors, logs, health, reflection, and an orderly end.

Handlers raise domain errors (`services.common.errors`); here alone they become gRPC statuses.
"""

import asyncio
import contextlib
import inspect
import signal
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog
from aiohttp import web
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from services.common.config import NetworkSettings, split_address
from services.common.errors import (
    Code,
    InvalidInputError,
    PreconditionError,
    StemTubeError,
    UnauthenticatedError,
    UnavailableError,
)
from services.common.observe import request_context, telemetry, tracing
from services.common.rpc import peers, tls
from services.common.rpc.auth import Identity, TokenVerifier, require_scope, set_caller
from services.common.rpc.limits import Slots, TokenBuckets

log = structlog.get_logger(__name__)
T = TypeVar("T")

ERROR_DOMAIN = "stemtube"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_METADATA_BYTES = 16 * 1024
# Of a message, which metadata carry twice, up to three times as large.
MAX_ERROR_BYTES = 1000
MAX_CONCURRENT_STREAMS = 10_000
SERVER_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # A gateway has the streams of all its users on one connection.
    ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Who pings more often is told to calm down at the third time, and who says nothing at first is not waited for.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
)
ALWAYS_PUBLIC = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
AUTH = "/stemtube.auth.v1.AuthService/"
# Services ask the latter every half minute, by themselves.
UNTRACED = (*ALWAYS_PUBLIC, *(AUTH + name for name in ("IssueServiceToken", "ListEndedSessions", "ListSigningKeys")))
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


def error_status(error: StemTubeError) -> status_pb2.Status:
    """The status that tells a domain error: code, message, and an `ErrorInfo` with reason and metadata."""
    detail = any_pb2.Any()
    metadata = {name: _told(value) for name, value in error.metadata.items()}
    detail.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata))
    return status_pb2.Status(code=int(error.code), message=_told(error.message), details=[detail])


def _told(text: str) -> str:
    """Text of an error, which may repeat what somebody sent: short enough for metadata, and UTF-8."""
    return text.encode(errors="replace")[:MAX_ERROR_BYTES].decode(errors="ignore")


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: StemTubeError) -> None:
    status = rpc_status.to_status(error_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates each RPC, keeps limits, turns errors into statuses, logs and counts.

    Args:
        verifier: checks access tokens.
        service: what is served; its public methods need no token.
        network: how much users may ask, and whose word on addresses is taken.
    """

    def __init__(self, verifier: TokenVerifier, service: "Service", network: NetworkSettings) -> None:
        self._verifier = verifier
        self._public = frozenset(service.public)
        self._scopes = service.scopes
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
                    if inspect.isawaitable(responses):  # it writes to the context by itself, as the health service does
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
        """Finds out who calls, and whether they may; None in public RPCs."""
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
        # A gateway says where its client is; it knows that better than an address in a private network tells.
        told = peers.valid_address(metadata.get(peers.ADDRESS_KEY, ""))
        name = metadata.get(peers.CLIENT_KEY) or metadata.get("user-agent", "")
        return peers.Client(told if self._proxies.trusts(peer) else peer, name[: peers.MAX_CLIENT_NAME])

    def _slot(self, identity: Identity) -> contextlib.AbstractContextManager[None]:
        return self._streams.slot(identity.subject) if identity.kind == "user" else contextlib.nullcontext()

    async def _authenticate(self, authorization: str) -> Identity:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("This needs a valid access token.")
        return await self._verifier.verify(token)


def _parsed(handler: Any, request: Any) -> Any:
    """The request as its handler takes it: a message, or an iterator of messages.

    gRPC itself would parse before anybody has asked who calls, and answer UNKNOWN with Python's own words.

    Raises (or the iterator does):
        InvalidInputError: the bytes are no such message (reason BAD_REQUEST).
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
    with _span(method, metadata) as span:
        try:
            yield
        except StemTubeError as error:
            code = error.code.name
            span.fail(error.reason)
            log.info("refused", code=code, reason=error.reason, detail=error.message)
            await _abort(context, error)
        except (asyncio.CancelledError, GeneratorExit):
            code = Code.CANCELLED.name
            raise
        except grpc.aio.AbortError:
            code = Code.UNKNOWN.name
            raise
        except Exception:
            code = Code.INTERNAL.name
            span.fail(code)
            log.exception("failed")
            await _abort(context, InternalError("Something went wrong here; the server's log tells more."))
        finally:
            span.set(rpc__response__status_code=code)
            telemetry.RPCS.labels(method, code).inc()
            if timed:
                telemetry.RPC_SECONDS.labels(method).observe(time.perf_counter() - started)


def _span(method: str, metadata: Mapping[str, str]) -> contextlib.AbstractContextManager[tracing.Span]:
    """The span of an RPC; nobody wants to see what is asked again and again."""
    if method.startswith(UNTRACED):
        return tracing.NO_SPAN
    name = method.lstrip("/")
    return tracing.span(name, kind="server", parent=metadata.get(request_context.TRACE_KEY, ""), rpc__method=name)


class InternalError(StemTubeError):
    """A fault of ours; what it was is in the log, not in the answer."""

    code = Code.INTERNAL
    reason = "INTERNAL"


class Draining:
    """Tells long streams that the server is going away."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def start(self) -> None:
        """From now on streams end."""
        self._event.set()

    async def watch(self, updates: AsyncGenerator[T, None]) -> AsyncIterator[T]:
        """Passes `updates` on until they end or the server drains.

        Raises:
            UnavailableError: the server drains (reason DRAINING): the client calls again, elsewhere or later.
        """
        async with contextlib.aclosing(until(updates, self._drained())) as lasting:
            async for update in lasting:
                yield update

    async def _drained(self) -> None:
        await self._event.wait()
        raise UnavailableError("This server is going away; call again.", "DRAINING")


async def until(updates: AsyncGenerator[T, None], end: Coroutine[Any, Any, None]) -> AsyncGenerator[T, None]:
    """Passes `updates` on until they end, or until `end` raises, which it does in their stead."""
    ending = asyncio.ensure_future(end)
    following: asyncio.Future[T | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(updates, None))
            await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                ending.result()
            update = await following
            if update is None:
                return
            yield update
    finally:
        ending.cancel()
        if following and not following.done():
            following.cancel()
        await asyncio.gather(ending, *([following] if following else []), return_exceptions=True)
        await updates.aclose()


async def unless(work: Awaitable[T], end: Coroutine[Any, Any, None]) -> T:
    """The result of `work`, or what `end` raises before that; then the work is cancelled."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            ending.result()
        return await working
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)


@dataclass(frozen=True)
class Service:
    """What a process serves.

    Args:
        name: full name in the contracts (`stemtube.auth.v1.AuthService`).
        register: adds the servicer to a server.
        public: full names of the methods that need no token.
        scopes: by full name of a method, the scopes of restricted tokens that it accepts, where that is not `read` or
            `write` as its name says.
        further: full names of what `register` adds besides.
        max_request_bytes: largest message that it takes; gRPC holds as much of each stream in memory.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    public: tuple[str, ...] = ()
    scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    max_request_bytes: int = MAX_MESSAGE_BYTES


class RunningServer:
    """A server that takes requests, as `start` gives it.

    Attributes:
        port: where gRPC listens.
        health_port: where /healthz, /readyz and /metrics are.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        health_servicer: health.aio.HealthServicer,
        http: telemetry.HealthServer,
        port: int,
        draining: Draining,
    ) -> None:
        self._server = server
        self._health = health_servicer
        self._http = http
        self._draining = draining
        self.port = port
        self.health_port = http.port

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Drains: health turns NOT_SERVING, streams end with UNAVAILABLE, running RPCs get `grace_seconds`."""
        self._http.ready = False
        await self._health.enter_graceful_shutdown()
        self._draining.start()
        await self._server.stop(grace_seconds)
        await self._http.stop()


async def start(
    service: Service,
    *,
    listen: str,
    health_listen: str,
    verifier: TokenVerifier,
    draining: Draining,
    network: NetworkSettings | None = None,
    routes: Iterable[web.RouteDef] = (),
    problem: Callable[[], Awaitable[str]] | None = None,
) -> RunningServer:
    """Starts to serve; the arguments are those of `serve`.

    Raises:
        OSError: an address is taken or is not one of this machine's.
        PreconditionError: no certificate (reason NO_CERTIFICATE), or other machines could listen in (reason NO_TLS).
    """
    network = network or NetworkSettings()
    if not (network.tls_dir or network.plain or peers.is_loopback(split_address(listen)[0])):
        raise PreconditionError(
            f"{listen} is in reach of other machines: give STEMTUBE_NETWORK__TLS_DIR, "
            "or STEMTUBE_NETWORK__PLAIN=true where the network itself keeps others out.",
            "NO_TLS",
        )
    options = [*SERVER_OPTIONS, ("grpc.max_receive_message_length", service.max_request_bytes)]
    server = grpc.aio.server(interceptors=[RpcInterceptor(verifier, service, network)], options=options)
    service.register(server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = (service.name, *service.further, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    try:
        port = (
            server.add_secure_port(listen, tls.server_credentials(network.tls_dir))
            if network.tls_dir
            else server.add_insecure_port(listen)
        )
    except RuntimeError as error:
        raise OSError(f"cannot listen on {listen}: is another process there?") from error
    http = await telemetry.HealthServer.start(health_listen, routes)
    http.problem = problem
    await server.start()
    for name in ("", service.name):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    http.ready = True
    log.info("serving", address=f"{listen.rpartition(':')[0]}:{port}", health_port=http.port)
    return RunningServer(server, health_servicer, http, port, draining)


async def serve(
    service: Service,
    *,
    listen: str,
    health_listen: str,
    verifier: TokenVerifier,
    draining: Draining,
    network: NetworkSettings | None = None,
    routes: Iterable[web.RouteDef] = (),
    grace_seconds: float = 5.0,
    when_draining: Callable[[], Awaitable[None]] | None = None,
    problem: Callable[[], Awaitable[str]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Args:
        service: what is served.
        listen: host:port of gRPC.
        health_listen: host:port of /healthz, /readyz and /metrics.
        verifier: checks access tokens.
        draining: shared with the servicer's streams.
        network: TLS and limits; plain on loopback unless given.
        routes: what the HTTP server on `health_listen` serves besides.
        grace_seconds: how long running RPCs may take to end.
        when_draining: what else ends meanwhile.
        problem: tells why requests cannot be served now, for /readyz; empty if they can.

    Raises:
        OSError: an address is taken or is not one of this machine's.
        PreconditionError: as for `start`.
    """
    server = await start(
        service,
        listen=listen,
        health_listen=health_listen,
        verifier=verifier,
        draining=draining,
        network=network,
        routes=routes,
        problem=problem,
    )
    try:
        await stop_signal()
    finally:
        log.info("draining")
        await asyncio.gather(server.stop(grace_seconds), *([when_draining()] if when_draining else []))


async def stop_signal() -> None:
    """Returns at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await stop.wait()
