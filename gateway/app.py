"""The gateway as an aiohttp application: `init_app` makes it, `start` and `serve` run it.

It keeps no state: any replica can serve any request or WebSocket.
"""

import asyncio
import contextlib
import json
import warnings
from collections.abc import AsyncIterator, Callable

import aiohttp
import structlog
from aiohttp import web

from gateway import frontend, health, middleware, pages, processes, response_headers
from gateway.config import GatewaySettings
from gateway.connection import Connection, ConnectionLimiter, Requests, meeting_expectations
from gateway.errors import errors
from gateway.exports.routes import add_exports
from gateway.keys import CHANNELS, LIMIT, PROXIES, REQUEST_BUCKETS, SETTINGS, STOPPING, STORE
from gateway.media import media
from gateway.page_errors import add_page_errors
from gateway.session import api_tokens, origins, session
from gateway.transcoding import transcoder
from gateway.transcoding.bindings import Services
from gateway.transcoding.openapi import document
from gateway.uploads import form, tus
from services.common.compute.confinement_check import expect_confinement
from services.common.compute.memory import return_freed_memory
from services.common.config import split_address
from services.common.rpc.client import open_channel
from services.common.rpc.limits import TokenBuckets
from services.common.rpc.peers import TrustedProxies
from services.common.rpc.server import stop_signal
from services.common.storage.marked_store import open_marked_store
from stemtube.analysis.v1 import analysis_pb2
from stemtube.auth.v1 import (
    access_token_pb2,
    account_pb2,
    api_token_pb2,
    invitation_pb2,
    session_pb2,
    user_pb2,
)
from stemtube.auth.v1 import import_pb2 as user_import_pb2
from stemtube.download.v1 import import_pb2 as track_import_pb2
from stemtube.download.v1 import (
    link_pb2,
    media_pb2,
    playlist_pb2,
    track_job_pb2,
    track_pb2,
    upkeep_pb2,
    upload_pb2,
)
from stemtube.separation.v1 import separation_pb2

log = structlog.get_logger(__name__)

SERVICES: Services = {
    "auth": (
        session_pb2.DESCRIPTOR.services_by_name["SessionService"],
        account_pb2.DESCRIPTOR.services_by_name["AccountService"],
        api_token_pb2.DESCRIPTOR.services_by_name["ApiTokenService"],
        access_token_pb2.DESCRIPTOR.services_by_name["AccessTokenService"],
        user_pb2.DESCRIPTOR.services_by_name["UserService"],
        invitation_pb2.DESCRIPTOR.services_by_name["InvitationService"],
        user_import_pb2.DESCRIPTOR.services_by_name["UserImportService"],
    ),
    "download": (
        track_pb2.DESCRIPTOR.services_by_name["TrackService"],
        track_job_pb2.DESCRIPTOR.services_by_name["TrackJobService"],
        upload_pb2.DESCRIPTOR.services_by_name["UploadService"],
        link_pb2.DESCRIPTOR.services_by_name["LinkService"],
        media_pb2.DESCRIPTOR.services_by_name["MediaService"],
        playlist_pb2.DESCRIPTOR.services_by_name["PlaylistService"],
        upkeep_pb2.DESCRIPTOR.services_by_name["UpkeepService"],
        track_import_pb2.DESCRIPTOR.services_by_name["ImportService"],
    ),
    "separation": (separation_pb2.DESCRIPTOR.services_by_name["SeparationService"],),
    "analysis": (analysis_pb2.DESCRIPTOR.services_by_name["AnalysisService"],),
}
LINGERING_SECONDS = 5.0
LAST_ANSWERS_SECONDS = 0.5
"""When the gateway stops, how long used connections can still get an answer, with `Connection: close`."""
CANCELLED_SECONDS = 1.0
"""How long requests that did not end in time, and are cancelled, get to end."""


def init_app(config: GatewaySettings, services: Services = SERVICES) -> web.Application:
    """Makes the application, without running it.

    Args:
        config: settings.
        services: the gRPC services to serve.

    Raises:
        gateway.transcoding.bindings.BadAnnotationError: a contract declares a route that cannot be served.
        StemTubeError: the object store cannot be opened.
    """
    app = web.Application(
        middlewares=[
            middleware.request_id,
            middleware.traced,
            middleware.access_log,
            errors,
            middleware.limits,
            origins.own_pages,
            api_tokens.api_tokens,
        ],
        client_max_size=config.gateway.max_json_bytes,
    )
    app[SETTINGS] = config.gateway
    app[LIMIT] = config.limit
    app[STORE] = open_marked_store(config)
    app[STOPPING] = asyncio.Event()
    app[PROXIES] = TrustedProxies(config.gateway.trusted_proxies)
    app[REQUEST_BUCKETS] = TokenBuckets(config.gateway.requests_per_second, config.gateway.request_burst)
    app[api_tokens.EXCHANGES] = api_tokens.Exchanges()
    app.cleanup_ctx.append(_channels(config, services))
    app.cleanup_ctx.append(tus.sending)
    app.on_response_prepare.append(middleware.add_headers)
    app.on_response_prepare.append(tus.add_headers)
    app.on_response_prepare.append(origins.add_cors_headers)
    app.on_response_prepare.append(response_headers.make_safe)
    app.add_routes(health.routes)
    app.add_routes(session.routes)
    app.add_routes(form.routes)
    app.add_routes(tus.routes)
    app.add_routes(media.routes)
    app.add_routes(processes.routes)
    add_exports(app, config)
    add_page_errors(app)
    app.add_routes(transcoder.routes(services))
    app.add_routes(_documentation(services, config.gateway.public_url))
    app.add_routes(frontend.routes())
    return app


def _channels(config: GatewaySettings, services: Services) -> Callable[[web.Application], AsyncIterator[None]]:
    async def connected(app: web.Application) -> AsyncIterator[None]:
        channels = {
            process: open_channel(getattr(config.address, process), config.network.tls_dir) for process in services
        }
        app[CHANNELS] = {
            service.full_name: channels[process] for process, group in services.items() for service in group
        }
        yield
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    return connected


def _documentation(services: Services, public_url: str) -> list[web.RouteDef]:
    content = document(services, public_url)
    text, page = json.dumps(content, ensure_ascii=False), pages.api_page(content)

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    async def docs(_request: web.Request) -> web.Response:
        return pages.page_response(page)

    async def style(_request: web.Request) -> web.Response:
        return web.Response(text=pages.STYLE, content_type="text/css")

    return [
        web.get("/api/docs", docs),
        web.get(pages.STYLE_PATH, style),
        web.get("/api/v1/openapi.json", openapi),
    ]


class RunningGateway:
    """A running gateway, returned by `start`.

    Attributes:
        app: the application.
        port: where it listens.
        health_port: where /metrics is; 0 if it is off.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        listener: asyncio.Server,
        health_runner: web.AppRunner | None,
        requests: Requests,
        shutdown_seconds: float,
    ) -> None:
        self._runner = runner
        self._listener = listener
        self._health_runner = health_runner
        self._requests = requests
        self._shutdown_seconds = shutdown_seconds
        self.app = runner.app
        self.port: int = listener.sockets[0].getsockname()[1]
        self.health_port: int = health_runner.addresses[0][1] if health_runner else 0

    async def stop(self) -> None:
        """Sends clients of open streams elsewhere, answers current requests, and takes no more.

        aiohttp's own shutdown comes last, because it drops the rest of a body that is being received.
        """
        self.app[STOPPING].set()
        server = self._runner.server
        if server and server.connections:
            await asyncio.sleep(LAST_ANSWERS_SECONDS)
        self._listener.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._shutdown_seconds):
                await self._requests.ended()
        await self._runner.cleanup()
        if self._health_runner:
            await self._health_runner.cleanup()


async def start(config: GatewaySettings, services: Services = SERVICES) -> RunningGateway:
    """Starts to serve; the arguments are as for `init_app`.

    Raises:
        OSError: the address is taken or is not one of this machine's.
        StemTubeError: the object store cannot be opened.
    """
    # Python remembers the text of every warning forever, and these texts come from clients.
    for category in (aiohttp.BadContentDispositionHeader, aiohttp.BadContentDispositionParam):
        warnings.filterwarnings("ignore", category=category)
    runner = web.AppRunner(
        init_app(config, services),
        # A client that goes away ends its RPC at once.
        handler_cancellation=True,
        shutdown_timeout=CANCELLED_SECONDS,
    )
    await runner.setup()
    manager = runner.server
    assert manager is not None
    requests = Requests()
    manager.request_handler = requests.counting(meeting_expectations(manager.request_handler))
    loop = asyncio.get_running_loop()

    limiter = ConnectionLimiter(config.gateway.connections_per_address, TrustedProxies(config.gateway.trusted_proxies))

    def connection() -> Connection:
        return Connection(
            limiter,
            manager,
            loop=loop,
            lingering_time=LINGERING_SECONDS,
            keepalive_timeout=config.gateway.keepalive_seconds,
            access_log=None,  # the application's own does without queries
        )

    health_runner: web.AppRunner | None = None
    try:
        if config.gateway.health_listen is not None:
            health_runner = web.AppRunner(health.health_app(runner.app), access_log=None)
            await health_runner.setup()
            await web.TCPSite(health_runner, *split_address(config.gateway.health_listen)).start()
        listener = await loop.create_server(connection, *split_address(config.gateway.listen))
    except OSError:
        for started in (runner, *([health_runner] if health_runner else [])):
            await started.cleanup()
        raise
    gateway = RunningGateway(runner, listener, health_runner, requests, config.gateway.shutdown_seconds)
    log.info("serving", address=config.gateway.listen, port=gateway.port)
    return gateway


async def serve(config: GatewaySettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        OSError: the address is taken or is not one of this machine's.
        StemTubeError: the object store cannot be opened, or decoders cannot be confined (see `expect_confinement`).
    """
    return_freed_memory()
    await expect_confinement(config.decoder)
    gateway = await start(config)
    try:
        await stop_signal()
    finally:
        log.info("stopping")
        await gateway.stop()
