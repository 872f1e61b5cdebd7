"""What happens around every request: an id, a log line, metrics, the origin check, headers that browsers obey."""

import asyncio
import re
import time
import uuid

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram

from gateway.config import origin_of
from gateway.keys import REQUEST_ID, SETTINGS
from services.common.errors import PermissionDeniedError

log = structlog.get_logger(__name__)

REQUESTS = Counter("stemtube_http_requests_total", "HTTP requests that ended.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("stemtube_http_request_seconds", "Time that HTTP requests took.", ["method", "route"])

REQUEST_ID_HEADER = "X-Request-Id"
SWITCHING_PROTOCOLS = 101
CLIENT_LEFT = 499
SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@web.middleware
async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request an id, its own if it brings a decent one; logs and services tell it."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
    with structlog.contextvars.bound_contextvars(request=request[REQUEST_ID]):
        return await handler(request)


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One log line per request; rate, errors and duration per route."""
    started = time.perf_counter()
    status = CLIENT_LEFT
    stream = False
    try:
        response = await handler(request)
        status = response.status
        stream = status == SWITCHING_PROTOCOLS or response.content_type == "text/event-stream"
        return response
    except (asyncio.CancelledError, ConnectionError):
        raise
    except web.HTTPException as redirect:
        status = redirect.status
        raise
    finally:
        seconds = time.perf_counter() - started
        route, method = _route(request), request.method if request.method in hdrs.METH_ALL else "OTHER"
        REQUESTS.labels(method, route, str(status)).inc()
        if not stream:
            REQUEST_SECONDS.labels(method, route).observe(seconds)
        write = log.debug if route in QUIET_ROUTES else log.info
        write("request", method=method, route=route, path=request.path, status=status, ms=round(seconds * 1000, 1))


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unmatched"


@web.middleware
async def same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses writes and WebSockets that another site's page makes a browser send.

    Programs other than browsers send no Origin; they have no cookies that could be abused either.

    Raises:
        PermissionDeniedError: the page is not one of ours (reason BAD_ORIGIN).
    """
    origin = request.headers.get(hdrs.ORIGIN)
    harmless = request.method in SAFE_METHODS and hdrs.UPGRADE not in request.headers
    if origin is None or harmless:
        return await handler(request)
    host = (origin_of(origin) or "").partition("://")[2]
    ours = origin in request.app[SETTINGS].origins or (host and host.lower() == request.host.lower())
    if not ours:
        raise PermissionDeniedError("Pages of another site may not do this.", "BAD_ORIGIN")
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Adds the headers that every response has.

    A signal, not a middleware: streams send their headers long before their handler returns.
    """
    if request_id := request.get(REQUEST_ID):
        response.headers[REQUEST_ID_HEADER] = request_id
    response.headers["Server"] = "stemtube"  # aiohttp's own tells versions
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", API_POLICY)
    response.headers.setdefault("Cache-Control", "no-store")
    if request.app[SETTINGS].secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
