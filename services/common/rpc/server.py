"""The gRPC server of all services: interceptor, limits, TLS, health, reflection, and an orderly end.

Handlers raise domain errors (`services.common.errors`); the interceptor turns them into gRPC statuses.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import structlog
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.config import NetworkSettings, split_address
from services.common.errors import PreconditionError
from services.common.observe import telemetry
from services.common.rpc import peers, tls
from services.common.rpc.auth import TokenVerifier
from services.common.rpc.draining import Draining
from services.common.rpc.interceptor import RpcInterceptor
from services.common.storage import damaged_files

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_METADATA_BYTES = 16 * 1024
MAX_CONCURRENT_STREAMS = 10_000
DAMAGE_SECONDS = 0.5
"""Time between two looks for a damaged database."""
SERVER_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    # Or a busy server takes several MiB of each stream before it reads them.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # One connection of a gateway has the streams of all its users.
    ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A client that pings more often is disconnected at its third ping.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
)


@dataclass(frozen=True)
class Service:
    """The gRPC services of a process.

    Args:
        name: full name of its first gRPC service (`stemtube.auth.v1.SessionService`).
        register: adds the servicers to a server.
        public: full names of the methods that need no token.
        scopes: by full name of a method, the scopes of restricted tokens that it accepts; methods that are missing need
            `read` or `write`, according to their name.
        further: full names of the other gRPC services that `register` adds.
        max_request_bytes: largest message that it accepts; gRPC holds this much of each stream in memory.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    public: tuple[str, ...] = ()
    scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    max_request_bytes: int = MAX_MESSAGE_BYTES


class RunningServer:
    """A running server, returned by `start`.

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
        watching: asyncio.Task[None],
    ) -> None:
        self._server = server
        self._health = health_servicer
        self._http = http
        self._draining = draining
        self._watching = watching
        self.port = port
        self.health_port = http.port

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Drains: health turns NOT_SERVING, streams end with UNAVAILABLE, running RPCs get `grace_seconds`."""
        self._http.ready = False
        self._watching.cancel()
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
    database: Path | None = None,
) -> RunningServer:
    """Starts to serve; the arguments are as for `serve`.

    Raises:
        OSError: an address is taken or is not one of this machine's.
        PreconditionError: a certificate cannot be read (reason NO_CERTIFICATE), or other machines can reach the address
            and there is no TLS (reason NO_TLS).
    """
    network = network or NetworkSettings()
    if not (network.tls_dir or network.plain or peers.is_loopback(split_address(listen)[0])):
        raise PreconditionError(
            f"Other machines can reach {listen}: set STEMTUBE_NETWORK__TLS_DIR, "
            "or STEMTUBE_NETWORK__PLAIN=true if the network itself keeps others out.",
            "NO_TLS",
        )
    options = [*SERVER_OPTIONS, ("grpc.max_receive_message_length", service.max_request_bytes)]
    interceptor = RpcInterceptor(verifier, network, service.public, service.scopes)
    server = grpc.aio.server(interceptors=[interceptor], options=options)
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
        raise OSError(f"cannot listen on {listen}: is another process listening there?") from error
    http = await telemetry.HealthServer.start(health_listen, routes)
    http.problem = damaged_files.or_damage(database, problem)
    await server.start()
    served = (service.name, *service.further)
    for name in ("", *served):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    watching = asyncio.create_task(_end_service_when_damaged(database, health_servicer, served))
    http.ready = True
    log.info("serving", address=f"{listen.rpartition(':')[0]}:{port}", health_port=http.port)
    return RunningServer(server, health_servicer, http, port, draining, watching)


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
    database: Path | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Args:
        service: the service to serve.
        listen: host:port of gRPC.
        health_listen: host:port of /healthz, /readyz and /metrics.
        verifier: checks access tokens.
        draining: shared with the servicer's streams.
        network: TLS and limits; without TLS, on loopback, unless given.
        routes: further routes of the HTTP server on `health_listen`.
        grace_seconds: how long running RPCs may take to end.
        when_draining: ends other work.
        problem: for /readyz: returns why requests cannot be served now, or an empty string.
        database: SQLite file; when damage is found in it, readiness and gRPC health report that nothing is served.

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
        database=database,
    )
    try:
        await stop_signal()
    finally:
        log.info("draining", grace_seconds=grace_seconds)
        await asyncio.gather(server.stop(grace_seconds), *([when_draining()] if when_draining else []))


async def _end_service_when_damaged(
    database: Path | None, servicer: health.aio.HealthServicer, services: Iterable[str]
) -> None:
    """Sets the health of the services, but not of the process (""), to NOT_SERVING: a restart would not help."""
    while True:
        await asyncio.sleep(DAMAGE_SECONDS)
        if damaged_files.fault_in(database):
            for service in services:
                await servicer.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
            return


async def stop_signal() -> None:
    """Returns at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await stop.wait()
