"""API tokens of the caller (api_token.proto)."""

from datetime import timedelta
from typing import Any

from services.auth.access_tokens.issuer import TokenIssuer
from services.auth.api_tokens.api_tokens import ApiTokens
from services.auth.sessions.signing_in import SigningIn, user_identity
from services.auth.tables import ApiToken, User
from services.auth.times import duration, lifetime, timestamp
from services.auth.users.repository import UserRepository
from services.common.limits import DEFAULT_TOKEN_DAYS
from services.common.observe import audit
from services.common.rpc.auth import ADMIN, require_admin, require_user
from stemtube.auth.v1 import api_token_pb2 as pb
from stemtube.auth.v1 import api_token_pb2_grpc

DEFAULT_LIFETIME = timedelta(days=DEFAULT_TOKEN_DAYS)


class ApiTokenService(api_token_pb2_grpc.ApiTokenServiceServicer):
    """The servicer; the contract says what each RPC does and how it can end.

    Args:
        api_tokens: of all users.
        users: all users.
        signing_in: checks passwords.
        issuer: issues access tokens.
    """

    def __init__(
        self, api_tokens: ApiTokens, users: UserRepository, signing_in: SigningIn, issuer: TokenIssuer
    ) -> None:
        self._api_tokens = api_tokens
        self._users = users
        self._signing_in = signing_in
        self._issuer = issuer

    async def CreateApiToken(self, request: pb.CreateApiTokenRequest, _context: Any) -> pb.CreateApiTokenResponse:
        me = require_admin() if ADMIN in request.scopes else require_user()
        life = lifetime(request.lifetime, DEFAULT_LIFETIME, "BAD_API_TOKEN")

        async def create(checked: User | None) -> tuple[ApiToken, str]:
            return await self._api_tokens.create(me, request.name, request.scopes, life, checked=checked)

        if request.password:
            username = (await self._users.existing(me.subject)).username
            token, secret = await self._signing_in.with_password(username, request.password, create)
        else:
            token, secret = await create(None)
        audit.record("API token created", id=token.id, scopes=token.scopes)
        return pb.CreateApiTokenResponse(api_token=_message(token), secret=secret)

    async def ListApiTokens(self, _request: pb.ListApiTokensRequest, _context: Any) -> pb.ListApiTokensResponse:
        found = await self._api_tokens.of_user(require_user().subject)
        return pb.ListApiTokensResponse(api_tokens=[_message(token) for token in found])

    async def DeleteApiToken(self, request: pb.DeleteApiTokenRequest, _context: Any) -> pb.DeleteApiTokenResponse:
        await self._api_tokens.end(require_user().subject, request.api_token_id)
        audit.record("API token ended", id=request.api_token_id)
        return pb.DeleteApiTokenResponse()

    async def ExchangeApiToken(self, request: pb.ExchangeApiTokenRequest, _context: Any) -> pb.ExchangeApiTokenResponse:
        user, token = await self._api_tokens.use(request.api_token)
        identity = user_identity(user, token.id, frozenset(token.scopes.split()))
        return pb.ExchangeApiTokenResponse(
            access_token=await self._issuer.issue(identity), expires_in=duration(self._issuer.lifetime)
        )


def _message(token: ApiToken) -> pb.ApiToken:
    return pb.ApiToken(
        id=token.id,
        name=token.name,
        scopes=token.scopes.split(),
        create_time=timestamp(token.create_time),
        expire_time=timestamp(token.expire_time),
        last_use_time=timestamp(token.last_use_time) if token.last_use_time else None,
    )
