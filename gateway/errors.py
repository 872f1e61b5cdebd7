"""Errors in HTTP responses: every failure is a `google.rpc.Status` as JSON with an `ErrorInfo`.

{"code": 5, "message": "…", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": …}]}
"""

import json
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from google.protobuf import json_format

from services.common.errors import Code, InternalError, InvalidInputError, StemTubeError
from services.common.rpc.client import RemoteError, domain_error
from services.common.rpc.statuses import error_status

log = structlog.get_logger(__name__)

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
TOO_LARGE = "TOO_LARGE"
# Reasons for refusing a file. They are not 429, because sending the file again later will not help.
TOO_MUCH = (TOO_LARGE, "TOO_LONG", "TOO_MANY_CHANNELS")
TOO_SLOW = "TOO_SLOW"
RETRY_SECONDS = 10
"""Retry-After of a 503 without a time of its own."""
# The metadata with a google.rpc.Status, which a service sets and the transport does not.
DETAILS_KEY = "grpc-status-details-bin"

# Messages for failures of gRPC itself, because its own texts name addresses and sockets.
_TRANSPORT_MESSAGES = {
    Code.UNAVAILABLE: "A part of StemTube does not answer now; try again.",
    Code.DEADLINE_EXCEEDED: "This took too long; try again.",
    Code.CANCELLED: "The request was cancelled.",
    Code.UNIMPLEMENTED: "This deployment does not offer that.",
}

_HTTP_ERRORS = {
    400: (Code.INVALID_ARGUMENT, "BAD_REQUEST", "The request is malformed."),
    403: (Code.PERMISSION_DENIED, "PERMISSION_DENIED", "This is not allowed."),
    404: (Code.NOT_FOUND, "NO_SUCH_ROUTE", "There is nothing at this address; /api/docs lists the routes."),
    405: (Code.UNIMPLEMENTED, "METHOD_NOT_ALLOWED", "This address does not know that method."),
    413: (Code.RESOURCE_EXHAUSTED, TOO_LARGE, "The body is larger than allowed."),
}


class HttpError(StemTubeError):
    """An error of HTTP, with its own status.

    Args:
        status: HTTP status.
        code: the nearest code, for callers that use only codes.
        message: for a person.
        reason: for programs.
        headers: further response headers.
    """

    def __init__(
        self, status: int, code: Code, message: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason)
        self.code = code
        self.status = status
        self.headers = headers or {}


def from_rpc(error: grpc.aio.AioRpcError) -> RemoteError:
    """The domain error of a failed RPC; failures of gRPC itself get a message without internals."""
    remote = domain_error(error)
    if not any(key == DETAILS_KEY for key, _value in error.trailing_metadata() or ()):
        log.warning("rpc failed", code=remote.code.name, detail=error.details())
        message = _TRANSPORT_MESSAGES.get(remote.code, "Something went wrong here; the server's log tells more.")
        return RemoteError(remote.code, message, remote.reason)
    return remote


def from_http(error: web.HTTPException) -> HttpError:
    """Converts an error of aiohttp."""
    code, reason, message = _HTTP_ERRORS.get(error.status, (Code.UNKNOWN, f"HTTP_{error.status}", error.reason))
    allow = error.headers.get("Allow")
    return HttpError(error.status, code, message, reason, {"Allow": allow} if allow else None)


def http_status(error: StemTubeError) -> int:
    """The HTTP status of an error: google.rpc's mapping, but 413 for a file that is too large, 408 for a slow one."""
    if isinstance(error, HttpError):
        return error.status
    if error.reason == TOO_SLOW:
        return 408
    return 413 if error.reason in TOO_MUCH else HTTP_STATUS[error.code]


def status_json(error: StemTubeError) -> dict[str, Any]:
    """The `google.rpc.Status` of an error as ProtoJSON."""
    return json_format.MessageToDict(error_status(error), always_print_fields_with_no_presence=True)


def error_response(error: StemTubeError) -> web.Response:
    """The response for an error."""
    status = http_status(error)
    response = web.Response(
        status=status,
        text=json.dumps(status_json(error), ensure_ascii=False),
        content_type="application/json",
    )
    if isinstance(error, HttpError):
        response.headers.update(error.headers)
    if wait := error.metadata.get("retry_after_seconds", str(RETRY_SECONDS) if status == 503 else ""):
        response.headers["Retry-After"] = wait
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="stemtube"'
    return response


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers every error in the same form."""
    try:
        return await handler(request)
    except StemTubeError as error:
        return error_response(error)
    except grpc.aio.AioRpcError as error:
        return error_response(from_rpc(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return error_response(from_http(error))
    except web.RequestPayloadError:
        return error_response(InvalidInputError("The body is malformed or ends too early.", "TRUNCATED"))
    except ConnectionError:
        raise
    except Exception:
        log.exception("a request ended with an unexpected error")
        return error_response(InternalError("Something went wrong here; the server's log tells more."))
