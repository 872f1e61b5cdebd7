"""HTTP connections: limits their number, and answers malformed HTTP like other errors."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import ClientConnectionResetError, hdrs, web

from gateway.errors import HttpError, error_response
from services.common.errors import Code, InternalError
from services.common.rpc.peers import Client, TrustedProxies, valid_address

log = structlog.get_logger(__name__)


class ConnectionLimiter:
    """Limits how many connections each address has open.

    Args:
        most: connections that one address may have open.
        proxies: not counted, because they have many clients.
    """

    def __init__(self, most: int, proxies: TrustedProxies) -> None:
        self._most = most
        self._proxies = proxies
        self._open: Counter[str] = Counter()

    def acquire(self, address: str) -> bool:
        """Counts one more connection of an address; False if it has too many already."""
        if self._proxies.trusts(address):
            return True
        network = Client(address).network
        if self._open[network] >= self._most:
            return False
        self._open[network] += 1
        return True

    def release(self, address: str) -> None:
        """Counts one connection less."""
        if self._proxies.trusts(address):
            return
        network = Client(address).network
        self._open[network] -= 1
        if not self._open[network]:
            del self._open[network]


class Connection(web.RequestHandler):
    """As aiohttp's connection, but failures outside the application are answered as JSON.

    Malformed requests are common on the internet, so they are logged in one line without a traceback. aiohttp closes a
    connection whose request has not arrived completely after the keepalive time.

    Args:
        limiter: decides whether the client may have this connection.
        manager: as in aiohttp, with its further arguments.
    """

    __slots__ = ("_address", "_limiter")

    def __init__(self, limiter: ConnectionLimiter, manager: web.Server, **arguments: Any) -> None:
        super().__init__(manager, **arguments)
        self._limiter = limiter
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Closes the connection at once if its address has too many."""
        address = valid_address(str((transport.get_extra_info("peername") or ("",))[0]))
        if self._limiter.acquire(address):
            self._address = address
        super().connection_made(transport)
        if address and not self._address:
            log.info("too many connections", remote=address)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Frees the place of this connection."""
        if self._address:
            self._limiter.release(self._address)
            self._address = ""
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers a request that could not be read or handled, and closes the connection.

        Raises:
            ConnectionError: part of another answer has been sent, or the client has gone.
        """
        if isinstance(exc, ClientConnectionResetError):
            raise exc
        if status < 500:
            log.info("not http", remote=request.remote, error=type(exc).__name__)
            error = HttpError(status, Code.INVALID_ARGUMENT, "This is not a valid HTTP request.", "BAD_REQUEST")
            response = error_response(error)
        else:
            log.error("a request ended with an unexpected error", exc_info=exc)
            response = error_response(InternalError("Something went wrong here; the server's log tells more."))
        if request.writer.output_size > 0:
            raise ConnectionError("part of the response has been sent")
        response.headers["Server"] = "stemtube"
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Logs an internal error with its traceback, but malformed input, as the rest of a body, in one line."""
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            log.info("not http", error=type(error).__name__)
        else:
            super().log_exception(*args, **kw)


RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def meeting_expectations(handler: RequestHandler) -> RequestHandler:
    """Refuses an unknown `Expect`, which aiohttp would otherwise answer before any middleware runs."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
            message = "The only expectation that can be met is 100-continue."
            response = error_response(HttpError(417, Code.INVALID_ARGUMENT, message, "UNKNOWN_EXPECTATION"))
            response.headers["Server"] = "stemtube"
            response.force_close()
            return response
        return await handler(request)

    return handle


class Requests:
    """Counts requests that are being answered."""

    def __init__(self) -> None:
        self._count = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def counting(self, handler: RequestHandler) -> RequestHandler:
        """Wraps a handler to count its requests."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            self._count += 1
            self._quiet.clear()
            try:
                return await handler(request)
            finally:
                self._count -= 1
                if not self._count:
                    self._quiet.set()

        return handle

    async def ended(self) -> None:
        """Waits until there is none."""
        await self._quiet.wait()
