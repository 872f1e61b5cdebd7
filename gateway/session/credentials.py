"""Credentials: the access token of a request, the cookies of browsers, and the metadata of RPCs.

Programs send `Authorization: Bearer`. Browsers keep the access token in an HttpOnly cookie, which scripts cannot read
and other sites cannot send (SameSite=Strict). So a WebSocket needs no token in its address. The cookie with the refresh
token is sent only to the routes that need it.
"""

import contextlib

import jwt
from aiohttp import hdrs, web

from gateway.keys import ADDRESS, AUTHORIZATION, SETTINGS
from services.common.errors import UnauthenticatedError
from services.common.observe import request_context
from services.common.rpc import peers
from services.common.rpc.auth import bearer

ACCESS_COOKIE = "stemtube_access"
REFRESH_COOKIE = "stemtube_refresh"
ACCESS_PATH = "/api"
REFRESH_PATH = "/api/v1/auth"
_PATHS = {ACCESS_COOKIE: ACCESS_PATH, REFRESH_COOKIE: REFRESH_PATH}

Metadata = tuple[tuple[str, str], ...]


def call_metadata(request: web.Request) -> Metadata:
    """The metadata of an RPC for this request: the caller's token, if any, and `trace_metadata`.

    Raises:
        UnauthenticatedError: the token contains invalid characters.
    """
    authorization: Metadata = ()
    if exchanged := request.get(AUTHORIZATION):
        authorization = (("authorization", exchanged),)
    elif "Authorization" in request.headers:
        authorization = (("authorization", request.headers["Authorization"]),)
    elif token := request.cookies.get(ACCESS_COOKIE):
        authorization = bearer(token)
    for _name, value in authorization:
        if not (value.isascii() and value.isprintable()):
            raise UnauthenticatedError("The access token is not valid.", "BAD_TOKEN")
    return (*authorization, *trace_metadata(request))


def turn_key(request: web.Request) -> str:
    """The key for turns: the user of the request's access token, or without one the client's network.

    The token is not verified here, so it identifies the caller only after a service has accepted it.
    """
    token = dict(call_metadata(request)).get("authorization", "").partition(" ")[2]
    with contextlib.suppress(jwt.InvalidTokenError):
        subject = jwt.decode(token, options={"verify_signature": False}).get("sub")
        if isinstance(subject, str):
            return subject
    return peers.Client(request[ADDRESS]).network


def trace_metadata(request: web.Request) -> Metadata:
    """Metadata without a token, for RPCs that need none; an expired token would make them fail."""
    return (
        *request_context.metadata(),
        (peers.ADDRESS_KEY, request[ADDRESS]),
        (peers.CLIENT_KEY, user_agent(request)),
    )


def user_agent(request: web.Request) -> str:
    """The client's User-Agent, shortened, in printable ASCII."""
    name = request.headers.get(hdrs.USER_AGENT, "")[: peers.MAX_CLIENT_NAME]
    return "".join(character for character in name if " " <= character <= "~")


def keep_cookie(request: web.Request, response: web.StreamResponse, name: str, value: str, seconds: float) -> None:
    """Sets the cookie `name`, which lasts for `seconds`."""
    response.set_cookie(
        name,
        value,
        path=_PATHS[name],
        max_age=int(seconds),
        httponly=True,
        samesite="Strict",
        secure=request.app[SETTINGS].secure,
    )


def forget_cookies(request: web.Request, response: web.StreamResponse) -> None:
    """Deletes both cookies."""
    for name, path in _PATHS.items():
        response.del_cookie(name, path=path, httponly=True, samesite="Strict", secure=request.app[SETTINGS].secure)
