"""Admins manage users."""

import asyncio
from pathlib import Path

import pytest

from services.common.errors import Code
from stemtube.auth.v1 import api_token_pb2
from tests.auth.calling import PASSWORD, Caller, exchange, new_user, refusal
from tests.auth.running import RunningAuth, auth_settings, running_auth


async def test_a_new_account_has_a_password_that_must_be_changed(auth: RunningAuth, admin: Caller) -> None:
    made = await admin("CreateUser", username="Ben", email="ben@example.org")
    assert (made.user.username, made.user.email, made.user.admin) == ("Ben", "ben@example.org", False)
    assert made.user.must_change_password
    session = await auth.login("ben", made.one_time_password)
    assert session.user.must_change_password
    ben = Caller(auth, session)
    assert (await ben("GetMe")).user == session.user
    for rpc in ("ListSessions", "ListApiTokens", "EndOtherSessions", "ListUsers"):
        assert await refusal(ben(rpc)) == (Code.PERMISSION_DENIED, "PASSWORD_CHANGE_REQUIRED")

    changed = await ben("ChangePassword", old_password=made.one_time_password, new_password=PASSWORD)
    assert not changed.session.user.must_change_password
    assert len((await Caller(auth, changed.session)("ListSessions")).sessions) == 1
    assert await refusal(auth.login("ben", made.one_time_password)) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    assert await refusal(auth.refresh(session.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    assert not (await auth.login("ben", PASSWORD)).user.must_change_password


async def test_a_one_time_password_expires_after_some_days(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, one_time_password_days=0.2 / 86400)) as auth:
        made = await Caller(auth, await auth.login())("CreateUser", username="ben")
        await asyncio.sleep(0.3)
        assert await refusal(auth.login("ben", made.one_time_password)) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"username": ""}, "BAD_USERNAME"),
        ({"username": " ben"}, "BAD_USERNAME"),
        ({"username": "b" * 65}, "BAD_USERNAME"),
        ({"username": "b\0en"}, "BAD_USERNAME"),
        ({"username": "b\N{ZERO WIDTH JOINER}en"}, "BAD_USERNAME"),
        ({"username": "\N{RIGHT-TO-LEFT OVERRIDE}neb"}, "BAD_USERNAME"),
        ({"username": "ben", "email": "ben"}, "BAD_EMAIL"),
        ({"username": "ben", "email": "ben@example.org, eve@example.org"}, "BAD_EMAIL"),
        ({"username": "ben", "email": "ben@example.org\r\nBcc: eve@example.org"}, "BAD_EMAIL"),
        ({"username": "ben", "email": f"{'b' * 250}@example.org"}, "BAD_EMAIL"),
    ],
)
async def test_invalid_names_and_addresses_are_refused(admin: Caller, fields: dict[str, str], reason: str) -> None:
    assert await refusal(admin("CreateUser", **fields)) == (Code.INVALID_ARGUMENT, reason)


async def test_two_users_cannot_have_the_same_name(admin: Caller) -> None:
    await admin("CreateUser", username="Zoë")
    for name in ("zoë", "ZOË", "Zoe\N{COMBINING DIAERESIS}"):
        assert await refusal(admin("CreateUser", username=name)) == (Code.ALREADY_EXISTS, "USERNAME_TAKEN")


async def test_users_are_listed_page_by_page(admin: Caller) -> None:
    for name in ("Cleo", "bob", "Ada"):
        await admin("CreateUser", username=name)
    names, token = [], ""
    while True:
        page = await admin("ListUsers", page_size=3, page_token=token)
        names.append([user.username for user in page.users])
        if not (token := page.next_page_token):
            break
    assert names == [["Ada", "admin", "bob"], ["Cleo"]]
    for bad in ("!", "AA==", "ä"):
        assert (await refusal(admin("ListUsers", page_token=bad)))[1] == "BAD_PAGE_TOKEN"
    assert (await refusal(admin("ListUsers", page_size=-1)))[1] == "BAD_REQUEST"


async def test_only_admins_can_call_the_rpcs_for_admins(admin: Caller) -> None:
    user, ben = await new_user(admin)
    for rpc, fields in (
        ("ListUsers", {}),
        ("CreateUser", {"username": "eve", "admin": True}),
        ("UpdateUser", {"user_id": user.id, "admin": True}),
        ("ResetPassword", {"user_id": admin.session.user.id}),
        ("CreateInvitation", {}),
        ("ListInvitations", {}),
        ("DeleteInvitation", {"invitation_id": "x"}),
        ("RotateSigningKey", {}),
        ("CreateApiToken", {"name": "mine", "scopes": ["read", "admin"]}),
    ):
        assert await refusal(ben(rpc, **fields)) == (Code.PERMISSION_DENIED, "ADMIN_REQUIRED"), rpc
    assert await refusal(ben("ListEndedSessions")) == (Code.PERMISSION_DENIED, "SERVICE_REQUIRED")


async def test_a_disabled_user_is_signed_out_at_once_and_keeps_the_password(auth: RunningAuth, admin: Caller) -> None:
    user, ben = await new_user(admin)
    secret = (await ben("CreateApiToken", name="backup", scopes=["read"])).secret
    await admin("UpdateUser", user_id=user.id, disabled=True)
    assert await refusal(auth.login("ben", PASSWORD)) == (Code.PERMISSION_DENIED, "ACCOUNT_DISABLED")
    assert await refusal(auth.login("ben", "wrong password")) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    assert await refusal(auth.refresh(ben.session.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    exchange = api_token_pb2.ExchangeApiTokenRequest(api_token=secret)
    assert await refusal(auth.stub.ExchangeApiToken(exchange)) == (Code.UNAUTHENTICATED, "BAD_API_TOKEN")
    await asyncio.sleep(1.1)
    assert await refusal(ben("GetMe")) == (Code.UNAUTHENTICATED, "SESSION_ENDED")
    await admin("UpdateUser", user_id=user.id, disabled=False)
    await auth.login("ben", PASSWORD)


async def test_a_reset_ends_all_sessions_and_tokens_of_the_user(auth: RunningAuth, admin: Caller) -> None:
    user, ben = await new_user(admin)
    other = Caller(auth, await auth.login("ben", PASSWORD))
    made = [(await ben("CreateApiToken", name=name, scopes=["read"])).secret for name in ("backup", "sync")]
    script = Caller(auth, ben.session)
    script.token = await exchange(auth, made[0])
    await script("GetMe")
    password = (await admin("ResetPassword", user_id=user.id)).one_time_password
    assert await refusal(auth.login("ben", PASSWORD)) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    for session in (ben.session, other.session):
        assert await refusal(auth.refresh(session.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    for secret in made:
        assert await refusal(exchange(auth, secret)) == (Code.UNAUTHENTICATED, "BAD_API_TOKEN")
    await asyncio.sleep(1.1)
    for caller in (ben, other, script):
        assert await refusal(caller("GetMe")) == (Code.UNAUTHENTICATED, "SESSION_ENDED")
    again = await auth.login("ben", password)
    assert again.user.must_change_password
    changed = await Caller(auth, again)("ChangePassword", old_password=password, new_password="yet another secret")
    assert not (await Caller(auth, changed.session)("ListApiTokens")).api_tokens


async def test_rights_are_granted_and_revoked(auth: RunningAuth, admin: Caller) -> None:
    user, ben = await new_user(admin)
    changed = await admin("UpdateUser", user_id=user.id, admin=True, email=" ben@example.org ")
    assert (changed.user.admin, changed.user.email) == (True, "ben@example.org")
    ben = Caller(auth, await auth.refresh(ben.session.refresh_token))
    await ben("ListUsers")
    await admin("UpdateUser", user_id=user.id, admin=False)
    assert await refusal(auth.refresh(ben.session.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")


async def test_there_is_always_an_admin_who_can_sign_in(admin: Caller) -> None:
    me = admin.session.user.id
    for change in ({"admin": False}, {"disabled": True}):
        assert await refusal(admin("UpdateUser", user_id=me, **change)) == (Code.FAILED_PRECONDITION, "LAST_ADMIN")
    assert (await admin("GetMe")).user.admin


async def test_unknown_users_are_not_found(admin: Caller) -> None:
    for rpc in ("UpdateUser", "ResetPassword"):
        assert await refusal(admin(rpc, user_id="nobody")) == (Code.NOT_FOUND, "NO_SUCH_USER")
