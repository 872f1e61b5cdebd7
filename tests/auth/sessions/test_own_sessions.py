"""Users see and end their sessions, and services learn which ones ended."""

from datetime import UTC, datetime, timedelta

import jwt

from services.common.errors import Code
from stemtube.auth.v1 import session_pb2
from tests.auth.calling import PASSWORD, Caller, new_user, refusal
from tests.auth.running import RunningAuth


async def test_own_sessions_are_seen_and_ended(auth: RunningAuth, admin: Caller) -> None:
    _, ben = await new_user(admin)
    request = session_pb2.LoginRequest(username="ben", password=PASSWORD)
    metadata = (("x-client-address", "203.0.113.7"), ("x-client-name", "Firefox"))
    phone = Caller(auth, (await auth.stub.Login(request, metadata=metadata)).session)
    third = await auth.login("ben", PASSWORD)
    sessions = {session.client: session for session in (await phone("ListSessions")).sessions}
    assert len((await phone("ListSessions")).sessions) == 3
    assert (sessions["Firefox"].address, sessions["Firefox"].current) == ("203.0.113.7", True)
    assert abs(sessions["Firefox"].last_use_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)

    assert (await refusal(admin("EndSession", session_id=sessions["Firefox"].id)))[0] is Code.NOT_FOUND
    await ben("EndSession", session_id=sessions["Firefox"].id)
    assert await refusal(auth.refresh(phone.session.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    assert await refusal(ben("EndSession", session_id=sessions["Firefox"].id)) == (Code.NOT_FOUND, "NO_SUCH_SESSION")
    assert (await ben("EndOtherSessions")).ended_count == 1
    assert await refusal(auth.refresh(third.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    assert [session.current for session in (await ben("ListSessions")).sessions] == [True]


async def test_services_learn_which_sessions_ended(auth: RunningAuth, admin: Caller) -> None:
    _, ben = await new_user(admin)
    session_id = jwt.decode(ben.token, options={"verify_signature": False})["sid"]
    await auth.logout(ben.session.refresh_token)
    service = Caller(auth, session_pb2.Session())
    service.token = await auth.service_token("download", auth.settings.shared_service_secret())
    assert session_id in (await service("ListEndedSessions")).session_ids
