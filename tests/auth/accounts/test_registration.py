"""People register themselves: if registration is open, or with an invitation."""

import asyncio
from pathlib import Path

from services.common.errors import Code
from stemtube.auth.v1 import account_pb2
from tests.auth.calling import PASSWORD, Caller, refusal, refused, register
from tests.auth.running import RunningAuth, auth_settings, running_auth


async def test_registration_is_closed_unless_the_settings_allow_it(auth: RunningAuth) -> None:
    assert await refusal(register(auth)) == (Code.PERMISSION_DENIED, "REGISTRATION_CLOSED")
    assert (
        await auth.stub.GetRegistration(account_pb2.GetRegistrationRequest()) == account_pb2.GetRegistrationResponse()
    )


async def test_anyone_can_register_if_registration_is_open(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, registration="open")) as auth:
        session = (await register(auth, email="eve@example.org")).session
        assert (session.user.admin, session.user.must_change_password) == (False, False)
        assert await auth.me(session.access_token) == (await auth.login("Eve", PASSWORD)).user
        assert await refusal(register(auth, "EVE")) == (Code.ALREADY_EXISTS, "USERNAME_TAKEN")
        assert await refusal(register(auth, "bob", password="short")) == (Code.INVALID_ARGUMENT, "BAD_PASSWORD")
        for number in range(7):
            await register(auth, f"bot-{number}")
        error = await refused(register(auth, "bot-7"))
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")
        assert int(error.metadata["retry_after_seconds"]) >= 1


async def test_the_uses_of_an_invitation_are_limited(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, registration="invitation")) as auth:
        admin = Caller(auth, await auth.login())
        made = await admin("CreateInvitation", uses=2)
        bad = (Code.PERMISSION_DENIED, "BAD_INVITATION")
        assert await refusal(register(auth)) == bad
        assert await refusal(register(auth, invitation="nonsense")) == bad
        await register(auth, "eve", invitation=made.code)
        assert await refusal(register(auth, "eve", invitation=made.code)) == (Code.ALREADY_EXISTS, "USERNAME_TAKEN")
        assert (await admin("ListInvitations")).invitations[0].uses_left == 1
        results = await asyncio.gather(
            *(register(auth, name, invitation=made.code) for name in ("bob", "cleo")), return_exceptions=True
        )
        assert sum(isinstance(result, account_pb2.RegisterResponse) for result in results) == 1
        assert not (await admin("ListInvitations")).invitations

        other = await admin("CreateInvitation")
        await admin("DeleteInvitation", invitation_id=other.invitation.id)
        assert await refusal(register(auth, "dan", invitation=other.code)) == bad
        gone = admin("DeleteInvitation", invitation_id=other.invitation.id)
        assert await refusal(gone) == (Code.NOT_FOUND, "NO_SUCH_INVITATION")
        assert (await refusal(admin("CreateInvitation", uses=1001)))[1] == "BAD_INVITATION"
