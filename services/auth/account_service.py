"""The RPCs on one's own account: password, sessions, API tokens."""

from datetime import timedelta
from typing import Any

from services.auth.api_tokens import ApiTokens
from services.auth.messages import api_token_message, lifetime, session_message, user_message
from services.auth.passwords import checked_password
from services.auth.sessions import Sessions
from services.auth.signing_in import SigningIn
from services.auth.store import Store
from services.auth.tables import ApiToken, User
from services.common.errors import NotFoundError
from services.common.limits import DEFAULT_TOKEN_DAYS
from services.common.observe import audit
from services.common.rpc.auth import ADMIN, require_admin, require_user
from stemtube.auth.v1 import accounts_pb2 as pb
from stemtube.auth.v1 import auth_pb2

API_TOKEN_LIFETIME = timedelta(days=DEFAULT_TOKEN_DAYS)


class AccountRpcs:
    """Part of the servicer."""

    _store: Store
    _sessions: Sessions
    _api_tokens: ApiTokens
    _signing_in: SigningIn

    async def GetMe(self, _request: auth_pb2.GetMeRequest, _context: Any) -> auth_pb2.GetMeResponse:
        return auth_pb2.GetMeResponse(user=user_message(await self._me()))

    async def ChangePassword(
        self, request: auth_pb2.ChangePasswordRequest, _context: Any
    ) -> auth_pb2.ChangePasswordResponse:
        me = await self._me()
        checked_password(request.new_password, me.username)
        # A password is often changed because somebody else knows it: no token of theirs may go on.
        end_tokens = request.end_api_tokens if request.HasField("end_api_tokens") else True
        session = await self._signing_in.change_password(
            me.username, request.old_password, request.new_password, end_tokens=end_tokens
        )
        return auth_pb2.ChangePasswordResponse(session=session)

    async def ListSessions(self, _request: pb.ListSessionsRequest, _context: Any) -> pb.ListSessionsResponse:
        me = require_user()
        found = await self._sessions.of_user(me.subject)
        return pb.ListSessionsResponse(sessions=[session_message(session, me.session_id) for session in found])

    async def EndSession(self, request: pb.EndSessionRequest, _context: Any) -> pb.EndSessionResponse:
        me = require_user()
        await self._sessions.end(me.subject, request.session_id)
        audit.record("session ended", session=request.session_id)
        return pb.EndSessionResponse()

    async def EndOtherSessions(
        self, _request: pb.EndOtherSessionsRequest, _context: Any
    ) -> pb.EndOtherSessionsResponse:
        me = require_user()
        count = await self._sessions.end_others(me.subject, me.session_id)
        audit.record("other sessions ended", count=count)
        return pb.EndOtherSessionsResponse(ended_count=count)

    async def CreateApiToken(self, request: pb.CreateApiTokenRequest, _context: Any) -> pb.CreateApiTokenResponse:
        me = require_admin() if ADMIN in request.scopes else require_user()
        life = lifetime(request.lifetime, API_TOKEN_LIFETIME, "BAD_API_TOKEN")

        async def create(checked: User | None) -> tuple[ApiToken, str]:
            return await self._api_tokens.create(me, request.name, request.scopes, life, checked=checked)

        if request.password:
            username = (await self._me()).username
            token, secret = await self._signing_in.with_password(username, request.password, create)
        else:
            token, secret = await create(None)
        audit.record("API access created", id=token.id, scopes=token.scopes)
        return pb.CreateApiTokenResponse(api_token=api_token_message(token), secret=secret)

    async def ListApiTokens(self, _request: pb.ListApiTokensRequest, _context: Any) -> pb.ListApiTokensResponse:
        found = await self._api_tokens.of_user(require_user().subject)
        return pb.ListApiTokensResponse(api_tokens=[api_token_message(token) for token in found])

    async def DeleteApiToken(self, request: pb.DeleteApiTokenRequest, _context: Any) -> pb.DeleteApiTokenResponse:
        await self._api_tokens.end(require_user().subject, request.api_token_id)
        audit.record("API access ended", id=request.api_token_id)
        return pb.DeleteApiTokenResponse()

    async def _me(self) -> User:
        user = await self._store.user(require_user().subject)
        if user is None:
            raise NotFoundError("This account no longer exists.", "NO_SUCH_USER")
        return user
