"""API tokens, which scripts send like access tokens. The gateway exchanges them at auth and caches the result."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway.keys import API_TOKENS, AUTHORIZATION, CHANNELS, SETTINGS
from gateway.session.credentials import trace_metadata
from services.common.rpc.auth import API_TOKEN_PREFIX
from stemtube.auth.v1 import api_token_pb2, api_token_pb2_grpc

# An ended token's access tokens are refused within a minute; nobody gets another one for longer than this.
REMEMBER_SECONDS = 30.0
MOST_REMEMBERED = 10_000
_SCHEME = f"bearer {API_TOKEN_PREFIX}"


@dataclass(frozen=True, slots=True)
class _Exchanged:
    authorization: str
    since: float
    until: float


class Exchanges:
    """Cached access tokens by the digest of their API token."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[bytes, _Exchanged] = OrderedDict()

    async def authorization(self, request: web.Request, api_token: str) -> str:
        """The `authorization` metadata for RPCs of the request.

        Raises:
            grpc.aio.AioRpcError: auth refuses the token: UNAUTHENTICATED, reason BAD_API_TOKEN.
        """
        key = sha256(api_token.encode(errors="surrogateescape")).digest()
        known = self._remembered.get(key)
        # By the wall clock, like the services that check the token: they may refuse it after the clock was set.
        if known and known.since <= time.time() < known.until:
            return known.authorization
        stub: Any = api_token_pb2_grpc.ApiTokenServiceStub(request.app[CHANNELS][API_TOKENS])
        answer = await stub.ExchangeApiToken(
            api_token_pb2.ExchangeApiTokenRequest(api_token=api_token),
            timeout=request.app[SETTINGS].call_seconds,
            metadata=trace_metadata(request),
        )
        lasting = min(REMEMBER_SECONDS, answer.expires_in.ToTimedelta().total_seconds() / 2)
        now = time.time()
        exchanged = _Exchanged(f"Bearer {answer.access_token}", now, now + lasting)
        self._remembered[key] = exchanged
        self._remembered.move_to_end(key)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return exchanged.authorization


EXCHANGES = web.AppKey("exchanges", Exchanges)


@web.middleware
async def api_tokens(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Exchanges the API token of a request, if it has one."""
    authorization = request.headers.get(hdrs.AUTHORIZATION, "")
    if authorization[: len(_SCHEME)].lower() == _SCHEME:
        api_token = authorization.partition(" ")[2]
        request[AUTHORIZATION] = await request.app[EXCHANGES].authorization(request, api_token)
    return await handler(request)
