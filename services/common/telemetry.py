"""Logs, metrics, and the small HTTP server on which each process shows its health."""

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

from services.common.config import LogSettings

SECRET_NAMES = re.compile(r"password|token|secret|authorization|cookie|api_key", re.IGNORECASE)

RPCS = Counter("stemtube_rpcs_total", "RPCs that ended, by method and status code.", ["method", "code"])
RPC_SECONDS = Histogram("stemtube_rpc_seconds", "Time that unary RPCs took.", ["method"])


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if SECRET_NAMES.search(name):
            event[name] = "(hidden)"
    return event


def configure_logging(settings: LogSettings, service: str) -> None:
    """Sends this process's logs, those of libraries included, to standard error, each line naming the service."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
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
    for chatty in ("aiosqlite", "httpx", "alembic.runtime.plugins", "numba", "matplotlib"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.contextvars.bind_contextvars(service=service)


async def start_health_server(listen: str, ready: Callable[[], bool]) -> web.AppRunner:
    """Serves /healthz (the process lives), /readyz (it takes requests) and /metrics on `listen`, host:port.

    Returns:
        The running server; `await runner.cleanup()` ends it.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        return web.Response(text="ready\n") if ready() else web.Response(text="not ready\n", status=503)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    return runner


async def metrics(_request: web.Request) -> web.Response:
    """The process's metrics in Prometheus' text format."""
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
