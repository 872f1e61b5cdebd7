"""Logs errors that the page reports from browsers.

Anybody can send these, even without signing in, so their sizes and numbers are limited. Their log lines have the event
"page error".
"""

from typing import Any, Literal

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import TOO_LARGE, HttpError
from gateway.keys import ADDRESS, SETTINGS
from gateway.session.credentials import user_agent
from gateway.transcoding.messages import bad_request, read_json
from services.common.errors import Code, NotFoundError
from services.common.rpc.limits import TokenBuckets
from services.common.rpc.peers import Client

log = structlog.get_logger(__name__)

PATH = "/api/v1/page/errors"
MAX_BYTES = 16 * 1024
# A page reports ten different errors at most until it is reloaded.
OF_ADDRESS = {"rate": 0.1, "burst": 20.0}
OF_ALL = {"rate": 2.0, "burst": 100.0}
BUCKETS = web.AppKey("page_error_buckets", tuple[TokenBuckets, TokenBuckets])


class PageError(BaseModel):
    """An error as the page reports it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["error", "rejection"] = Field(description="A thrown error, or an unhandled rejection of a promise.")
    message: str = Field(max_length=1000)
    stack: str = Field("", max_length=8000)
    page: str = Field(max_length=1000, description="Path of the page's address.")


async def receive(request: web.Request) -> web.Response:
    """POST /api/v1/page/errors: {kind, message, stack, page} → 204.

    Raises:
        NotFoundError: the operator has turned these reports off (reason PAGE_ERRORS_OFF).
        LimitExceededError: there are too many (reason TOO_MANY_REQUESTS).
        InvalidInputError: the body is malformed (reason BAD_REQUEST).
        HttpError: the body is too large (reason TOO_LARGE).
    """
    level = request.app[SETTINGS].page_errors
    if level == "off":
        raise NotFoundError("Errors of the page are not collected here.", "PAGE_ERRORS_OFF")
    per_network, in_total = request.app[BUCKETS]
    per_network.take(Client(request[ADDRESS]).network)
    in_total.take("")
    if (request.content_length or 0) > MAX_BYTES:
        raise _too_large()
    content = await read_json(request)
    if len(await request.read()) > MAX_BYTES:
        raise _too_large()
    try:
        error = PageError.model_validate(content)
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False)[0]
        raise bad_request(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}.") from None
    # The part after the path can contain a user's search text.
    page = error.page.partition("?")[0].partition("#")[0]
    # Not "stack", which the console's renderer would print without escaping.
    texts = {"message": error.message, "thrown_at": error.stack, "page": page}
    harmless = {name: _harmless(text) for name, text in texts.items()}
    getattr(log, level)("page error", kind=error.kind, **harmless, agent=user_agent(request))
    return web.Response(status=204)


def _harmless(text: str) -> str:
    """Removes control characters, which a terminal would obey."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


def _too_large() -> HttpError:
    return HttpError(413, Code.RESOURCE_EXHAUSTED, "That is more than an error's text.", TOO_LARGE)


def add_page_errors(app: web.Application) -> None:
    """Adds the route and its limits."""
    app[BUCKETS] = (TokenBuckets(**OF_ADDRESS), TokenBuckets(**OF_ALL))
    app.add_routes([web.post(PATH, receive)])


TAG = {"name": "Page", "description": "For the page itself."}
OPENAPI: dict[str, Any] = {
    PATH: {
        "post": {
            "operationId": "TellPageError",
            "tags": [TAG["name"]],
            "summary": "Reports an error of the page in the browser, for the operator's log.",
            "security": [],
            "requestBody": {"content": {"application/json": {"schema": PageError.model_json_schema()}}},
            "responses": {
                "204": {"description": "It is in the log."},
                "404": {"$ref": "#/components/responses/Error"},
                "429": {"$ref": "#/components/responses/Error"},
                "default": {"$ref": "#/components/responses/Error"},
            },
        }
    }
}
