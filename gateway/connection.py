"""One HTTP connection, whose answer to what is not HTTP has the shape of every other error."""

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import hdrs, web

from gateway.errors import HttpError, error_response
from services.common.errors import Code
from services.common.server import InternalError

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """aiohttp's connection, but what fails before or outside the application is answered as JSON.

    Garbage is everyday life on the internet: it is logged in one line, not with a traceback.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that could not be read or handled; the connection ends with it.

        Raises:
            ConnectionError: part of another answer has been sent.
        """
        if status < 500:
            log.info("not http", remote=request.remote, error=type(exc).__name__)
            error = HttpError(status, Code.INVALID_ARGUMENT, "This is not a valid HTTP request.", "BAD_REQUEST")
            response = error_response(error)
        else:
            log.error("failed", exc_info=exc)
            response = error_response(InternalError("Something went wrong here; the server's log tells more."))
        if request.writer.output_size > 0:
            raise ConnectionError("part of the response has been sent")
        response.headers["Server"] = "stemtube"
        response.force_close()
        return response


RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def meeting_expectations(handler: RequestHandler) -> RequestHandler:
    """Refuses an `Expect` that nobody knows, which aiohttp would answer in its own way before any middleware runs."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
            message = "The only expectation that can be met is 100-continue."
            response = error_response(HttpError(417, Code.INVALID_ARGUMENT, message, "UNKNOWN_EXPECTATION"))
            response.headers["Server"] = "stemtube"
            response.force_close()
            return response
        return await handler(request)

    return handle
