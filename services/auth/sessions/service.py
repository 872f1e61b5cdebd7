"""Signing in and out, and open sessions (session.proto)."""

from typing import Any

from services.auth.sessions.sessions import Sessions
from services.auth.sessions.signing_in import SigningIn
from services.auth.tables import Session
from services.auth.times import timestamp
from services.common.observe import audit
from services.common.rpc.auth import require_service, require_user
from stemtube.auth.v1 import session_pb2 as pb
from stemtube.auth.v1 import session_pb2_grpc


class SessionService(session_pb2_grpc.SessionServiceServicer):
    """The servicer; the contract says what each RPC does and how it can end.

    Args:
        sessions: of all users.
        signing_in: checks passwords and starts sessions.
    """

    def __init__(self, sessions: Sessions, signing_in: SigningIn) -> None:
        self._sessions = sessions
        self._signing_in = signing_in

    async def Login(self, request: pb.LoginRequest, _context: Any) -> pb.LoginResponse:
        return pb.LoginResponse(session=await self._signing_in.sign_in(request.username, request.password))

    async def Refresh(self, request: pb.RefreshRequest, _context: Any) -> pb.RefreshResponse:
        return pb.RefreshResponse(session=await self._signing_in.refresh(request.refresh_token))

    async def Logout(self, request: pb.LogoutRequest, _context: Any) -> pb.LogoutResponse:
        await self._sessions.sign_out(request.refresh_token)
        return pb.LogoutResponse()

    async def ListSessions(self, _request: pb.ListSessionsRequest, _context: Any) -> pb.ListSessionsResponse:
        me = require_user()
        found = await self._sessions.of_user(me.subject)
        return pb.ListSessionsResponse(sessions=[_message(session, me.session_id) for session in found])

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

    async def ListEndedSessions(
        self, _request: pb.ListEndedSessionsRequest, _context: Any
    ) -> pb.ListEndedSessionsResponse:
        require_service()
        return pb.ListEndedSessionsResponse(session_ids=await self._sessions.ended())


def _message(session: Session, current: str) -> pb.SessionInfo:
    """A session, as its user sees it; `current` is the id of the session that asks."""
    return pb.SessionInfo(
        id=session.id,
        create_time=timestamp(session.create_time),
        last_use_time=timestamp(session.last_use_time or session.create_time),
        address=session.address,
        client=session.client,
        current=session.id == current,
    )
