"""Logs, metrics, and the small HTTP server on which each process shows its health."""

import asyncio
import logging
import re
import sys
from collections import deque
from collections.abc import Iterable, MutableMapping
from typing import Any, Self

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

from services.common import recent_log
from services.common.config import LogSettings, split_address

SECRET_NAMES = re.compile(r"password|token|secret|authorization|cookie|api_key", re.IGNORECASE)

REMEMBERED = ("timestamp", "event", "service", "rpc", "request", "job", "track", "error")
ERRORS: deque[dict[str, str]] = deque(maxlen=20)

RPCS = Counter("stemtube_rpcs_total", "RPCs that ended, by method and status code.", ["method", "code"])
RPC_SECONDS = Histogram("stemtube_rpc_seconds", "Time that unary RPCs took.", ["method"])


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if SECRET_NAMES.search(name):
            event[name] = "(hidden)"
    return event


def _remember_errors(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keeps the last errors for /errors: what happened, to which job or RPC, and the kind of fault."""
    if event["level"] in ("error", "critical"):
        kept = {name: str(event[name]) for name in REMEMBERED if name in event}
        if event.get("exc_info") and (kind := sys.exc_info()[0]):
            kept["fault"] = kind.__name__
        ERRORS.append(kept)
    return event


def configure_logging(settings: LogSettings, service: str) -> None:
    """Sends this process's logs, those of libraries included, to standard error, each line naming the service."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
        _remember_errors,
        recent_log.remember,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        # Not its default traceback, which prints local variables: passwords and tokens are among them.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ]
            if settings.format == "json"
            else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for chatty in ("aiosqlite", "httpx", "alembic", "numba", "matplotlib"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.contextvars.bind_contextvars(service=service)


class HealthServer:
    """Serves /healthz (the process lives), /readyz (it takes requests, as `ready` says), /metrics and /errors.

    Attributes:
        ready: what /readyz answers; False at first.
        port: where it listens.
    """

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self.ready = False
        self.port = 0

    @classmethod
    async def start(cls, listen: str, routes: Iterable[web.RouteDef] = ()) -> Self:
        """Starts to listen on host:port.

        Args:
            listen: host:port.
            routes: what it serves besides.

        Raises:
            OSError: the address is taken or is not one of this machine's.
        """

        async def healthz(_request: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_request: web.Request) -> web.Response:
            return web.Response(text="ready\n") if server.ready else web.Response(text="not ready\n", status=503)

        async def errors(_request: web.Request) -> web.Response:
            return web.json_response({"errors": list(ERRORS)})

        app = web.Application()
        app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
        app.add_routes([web.get("/errors", errors), *routes])
        server = cls(web.AppRunner(app, access_log=None))
        await server._runner.setup()
        await web.TCPSite(server._runner, *split_address(listen)).start()
        server.port = server._runner.addresses[0][1]
        return server

    async def stop(self) -> None:
        """Ends it."""
        await self._runner.cleanup()


async def metrics(_request: web.Request) -> web.Response:
    """The process's metrics in Prometheus' text format; collectors may look into databases."""
    return web.Response(body=await asyncio.to_thread(generate_latest), headers={"Content-Type": CONTENT_TYPE_LATEST})
