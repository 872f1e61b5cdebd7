"""Middleware for every request: id, trace, log line, metrics, limits, security headers."""

import asyncio
import re
import time
import uuid

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram

from gateway.keys import ADDRESS, PROXIES, REQUEST_BUCKETS, REQUEST_ID, SETTINGS, STOPPING
from gateway.session.credentials import user_agent
from services.common.observe import request_context, tracing
from services.common.rpc import peers

log = structlog.get_logger(__name__)

REQUESTS = Counter("stemtube_http_requests_total", "HTTP requests that ended.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("stemtube_http_request_seconds", "Time that HTTP requests took.", ["method", "route"])

REQUEST_ID_HEADER = "X-Request-Id"
SWITCHING_PROTOCOLS = 101
CLIENT_LEFT = 499
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
    """Gives the request an id, or keeps its own if that is valid. Logs and services get this and the track's id."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
    track = request.match_info.get("track_id", "")
    ids = {"request": request[REQUEST_ID]} | ({"track": track} if request_context.is_decent(track) else {})
    with structlog.contextvars.bound_contextvars(**ids):
        return await handler(request)


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Begins a trace, or continues that of a trusted proxy. No other client decides which traces are kept."""
    route = _route(request)
    if route in QUIET_ROUTES:
        return await handler(request)
    is_trusted = request.app[PROXIES].trusts(request.remote or "")
    parent = request.headers.get(request_context.TRACE_KEY, "") if is_trusted else ""
    facts = {"http.request.method": request.method, "http.route": route, "request": request[REQUEST_ID]}
    with tracing.span(f"{request.method} {route}", kind=tracing.SpanKind.SERVER, parent=parent, **facts) as span:
        response = await handler(request)
        span.set_attribute("http.response.status_code", response.status)
        if response.status >= 500:
            tracing.mark_failed(span, str(response.status))
        return response


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
        # The path as it was sent, because decoded characters could control a terminal; no query, which may be private.
        write(
            "request",
            method=method,
            route=route,
            path=request.rel_url.raw_path,
            status=status,
            ms=round(seconds * 1000, 1),
            agent=user_agent(request),
        )


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unmatched"


@web.middleware
async def limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Determines the client's address and applies its limit; services apply the limits of users.

    Raises:
        LimitExceededError: there are too many requests from this address (reason TOO_MANY_REQUESTS).
    """
    forwarded = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
    addresses = [address for address in forwarded if address.strip()]
    client = peers.Client(request.app[PROXIES].client_address(request.remote or "", addresses))
    request[ADDRESS] = client.address
    if client.network:
        request.app[REQUEST_BUCKETS].take(client.network)
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Adds headers to every response.

    It is a signal, not a middleware, because streams send their headers long before their handler returns.
    """
    if request_id := request.get(REQUEST_ID):
        response.headers[REQUEST_ID_HEADER] = request_id
    response.headers["Server"] = "stemtube"  # aiohttp's own header reveals versions
    if request.app[STOPPING].is_set():
        response.force_close()
        response.headers.setdefault(hdrs.CONNECTION, "close")  # aiohttp has set its own header by now
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", API_POLICY)
    response.headers.setdefault("Cache-Control", "no-store")
    if request.app[SETTINGS].secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
