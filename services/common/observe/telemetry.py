"""Logs, metrics, and the small HTTP server with each process's health."""

import asyncio
import atexit
import logging
import queue
import re
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import Any, Self

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

from services.common.config import LogSettings, TracingSettings, split_address
from services.common.observe import recent_log, tracing

SECRET_NAMES = re.compile(r"password|token|secret|authorization|cookie|api_key", re.IGNORECASE)

# The console's renderer quotes and escapes a text that contains one of these.
_QUOTED = frozenset(" \t=\r\n\"'")

REMEMBERED = ("timestamp", "event", "service", "rpc", "request", "job", "kind", "track_id", "reason", "error")
ERRORS: deque[dict[str, str]] = deque(maxlen=20)

RPCS = Counter("stemtube_rpcs_total", "RPCs that ended, by method and status code.", ["method", "code"])
RPC_SECONDS = Histogram("stemtube_rpc_seconds", "Time that unary RPCs took.", ["method"])


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if SECRET_NAMES.search(name):
            event[name] = "(hidden)"
    return event


def _remember_errors(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keeps the last errors for /errors: the event, the job or RPC, and the kind of error."""
    if event["level"] in ("error", "critical"):
        kept = {name: str(event[name]) for name in REMEMBERED if name in event}
        if event.get("exc_info") and (kind := sys.exc_info()[0]):
            kept["fault"] = kind.__name__
        ERRORS.append(kept)
    return event


def _naming(service: str) -> Any:
    """A processor that adds the process's name. Not a context variable, which other threads would not have."""

    def name(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        return event

    return name


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if trace := tracing.trace_id():
        event["trace"] = trace
    return event


@dataclass(frozen=True, slots=True)
class Inherited:
    """Settings for a child process, so that it logs and traces like its parent; picklable.

    Args:
        log: settings of logs.
        file: the parent's log file, if it has one.
        tracing: settings of traces.
    """

    log: LogSettings
    file: Path | None
    tracing: TracingSettings


_file: Path | None = None


def for_child(settings: LogSettings) -> Inherited:
    """The settings for a child of this process."""
    return Inherited(settings, _file, tracing.present_settings())


def configure_child(inherited: Inherited, name: str) -> None:
    """Sets up logs and traces of a child process like those of its parent, with a name of its own."""
    tracing.configure_tracing(inherited.tracing, name)
    # The parent renames the file when it is too large; then the handler reopens it. Each line is appended by one write.
    handler = WatchedFileHandler(inherited.file, encoding="utf-8") if inherited.file else None
    _configure(inherited.log, name, handler)


def configure_logging(settings: LogSettings, service: str) -> None:
    """Sends the logs of this process and its libraries to standard error; every line names the service.

    If a file is set, they are also written there, by a thread, so that a slow disk delays nothing.

    Raises:
        OSError: the file cannot be written.
    """
    global _file
    _configure(settings, service, None)
    _file = Path(settings.file.replace("{process}", service)).absolute() if settings.file else None
    if _file:
        _file.parent.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(
            _file, maxBytes=settings.file_bytes, backupCount=settings.files_kept, encoding="utf-8"
        )
        lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        writer = QueueListener(lines, file)
        writer.start()
        atexit.register(writer.stop)
        _configure(settings, service, QueueHandler(lines))


def _configure(settings: LogSettings, service: str, file_handler: logging.Handler | None) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _naming(service),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _hide_secrets,
    ]
    remembered = [*shared, _remember_errors, recent_log.remember]
    structlog.configure(
        processors=[*remembered, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings.format, remembered, colours=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    if file_handler:
        file_handler.setFormatter(_formatter(settings.format, shared, colours=False))
        root.addHandler(file_handler)
    root.setLevel(settings.level.upper())
    for chatty in ("aiosqlite", "httpx", "alembic", "numba", "matplotlib", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _formatter(style: str, of_libraries: list[Any], *, colours: bool) -> logging.Formatter:
    """A formatter of one style; `of_libraries` are the processors of records that structlog did not make."""
    # Not the console's default traceback, because it prints local variables, such as passwords and tokens.
    rendering: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            _escape_controls,
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=of_libraries,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


def _escape_controls(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escapes control characters; the console's renderer does so only in texts with spaces or quotes."""
    for name, text in event.items():
        if isinstance(text, str) and not text.isprintable() and (name == "event" or not _QUOTED.intersection(text)):
            event[name] = text.encode("unicode_escape").decode()
    return event


class HealthServer:
    """Serves /healthz (the process lives), /readyz (it takes requests), /metrics and /errors.

    Attributes:
        ready: whether /readyz may answer 200; False at first.
        problem: called for each /readyz; returns why the process cannot do its work, or an empty string.
        port: where it listens.
    """

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self.ready = False
        self.problem: Callable[[], Awaitable[str]] | None = None
        self.port = 0

    @classmethod
    async def start(cls, listen: str, routes: Iterable[web.RouteDef] = ()) -> Self:
        """Starts to listen on host:port.

        Args:
            listen: host:port.
            routes: further routes.

        Raises:
            OSError: the address is taken or is not one of this machine's.
        """

        async def healthz(_request: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_request: web.Request) -> web.Response:
            problem = await server.problem() if server.ready and server.problem else ""
            if problem:
                return web.Response(text=f"not ready: {problem}\n", status=503)
            return web.Response(text="ready\n") if server.ready else web.Response(text="not ready\n", status=503)

        app = web.Application()
        app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
        app.add_routes([web.get("/errors", errors), *routes])
        server = cls(web.AppRunner(app, access_log=None))
        await server._runner.setup()
        await web.TCPSite(server._runner, *split_address(listen)).start()
        server.port = server._runner.addresses[0][1]
        return server

    async def stop(self) -> None:
        """Stops the server."""
        await self._runner.cleanup()


async def errors(_request: web.Request) -> web.Response:
    """The process's last errors; not for the public."""
    return web.json_response({"errors": list(ERRORS)})


async def metrics(_request: web.Request) -> web.Response:
    """The process's metrics in Prometheus' text format; collectors may look into databases."""
    return web.Response(body=await asyncio.to_thread(generate_latest), headers={"Content-Type": CONTENT_TYPE_LATEST})
