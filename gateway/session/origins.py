"""Checks the origins of pages: only the gateway's own and those in the settings may use it from a browser (CORS)."""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway.config import origin_of
from gateway.keys import SETTINGS
from gateway.session.credentials import ACCESS_COOKIE, REFRESH_COOKIE
from services.common.errors import PermissionDeniedError

SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
FETCH_SITE = "Sec-Fetch-Site"
# A request from the address bar has no site.
OWN_SITES = frozenset({"same-origin", "none"})
CORS_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
CORS_HEADERS = "Authorization, Content-Type, Range, If-None-Match, If-Range, X-Request-Id"
CORS_EXPOSED = "Content-Disposition, Content-Range, ETag, Retry-After, X-Request-Id"
CORS_SECONDS = "600"


@web.middleware
async def own_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses writes and WebSockets from pages of other sites, and answers preflights.

    A browser sends the page's origin, or at least its site, with each of them. Programs need not, unless they send
    cookies, which are for browsers.

    Raises:
        PermissionDeniedError: the page is not one of ours, or its origin is missing (reason BAD_ORIGIN).
    """
    if _is_preflight(request):
        return web.Response(status=204)
    if request.method not in SAFE_METHODS or hdrs.UPGRADE in request.headers:
        expect_own_page(request)
    return await handler(request)


def expect_own_page(request: web.Request) -> None:
    """Refuses a request that changes something if another site's page may have made a browser send it.

    Raises:
        PermissionDeniedError: the page is not one of ours, or it is not told which it is (reason BAD_ORIGIN).
    """
    if _is_ours(request):
        return
    if hdrs.ORIGIN in request.headers or FETCH_SITE in request.headers:
        raise PermissionDeniedError("Pages of another site may not do this.", "BAD_ORIGIN")
    raise PermissionDeniedError(
        "Cookies are for browsers, which send an Origin; send the token as Authorization: Bearer.", "BAD_ORIGIN"
    )


def _is_ours(request: web.Request) -> bool:
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None:
        host = (origin_of(origin) or "").partition("://")[2]
        return origin in request.app[SETTINGS].origins or bool(host and host.lower() == request.host.lower())
    if site := request.headers.get(FETCH_SITE):
        return site in OWN_SITES
    by_cookie = ACCESS_COOKIE in request.cookies or REFRESH_COOKIE in request.cookies
    return hdrs.AUTHORIZATION in request.headers or not by_cookie


def _is_preflight(request: web.Request) -> bool:
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        and request.headers.get(hdrs.ORIGIN) in request.app[SETTINGS].allowed_origins
    )


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Lets pages of the origins in the settings read the answer; by default there are none."""
    allowed = request.app[SETTINGS].allowed_origins
    if not allowed:
        return
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin not in allowed:
        return
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = CORS_EXPOSED
    if _is_preflight(request):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = CORS_METHODS
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = CORS_HEADERS
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = CORS_SECONDS
