"""What admins do with accounts, and what users do with their own."""

import asyncio
import sqlite3
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import jwt
import pytest
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs

from services.auth import throttle
from services.common.errors import Code
from services.common.rpc.auth import bearer
from services.common.rpc.client import RemoteError, domain_error
from stemtube.auth.v1 import accounts_pb2, auth_pb2
from tests.auth.running import ADMIN_PASSWORD, RunningAuth, auth_settings, running_auth

PASSWORD = "a rather long secret"


async def refusal(call: Awaitable[Any]) -> tuple[Code, str]:
    """Code and reason that an RPC ends with."""
    error = await refused(call)
    return error.code, error.reason


async def refused(call: Awaitable[Any]) -> RemoteError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return domain_error(caught.value)


class Caller:
    """Calls auth's RPCs with one access token."""

    def __init__(self, auth: RunningAuth, session: auth_pb2.Session) -> None:
        self.auth = auth
        self.session = session
        self.token = session.access_token

    async def __call__(self, rpc: str, **fields: Any) -> Any:
        module = auth_pb2 if hasattr(auth_pb2, f"{rpc}Request") else accounts_pb2
        request = getattr(module, f"{rpc}Request")(**fields)
        return await getattr(self.auth.stub, rpc)(request, metadata=bearer(self.token), timeout=20)


@pytest.fixture
async def admin(auth: RunningAuth) -> Caller:
    return Caller(auth, await auth.login())


async def new_user(admin: Caller, name: str = "ben", **fields: Any) -> tuple[auth_pb2.User, Caller]:
    """An account whose user has chosen a password."""
    made = await admin("CreateUser", username=name, **fields)
    first = Caller(admin.auth, await admin.auth.login(name, made.one_time_password))
    changed = await first("ChangePassword", old_password=made.one_time_password, new_password=PASSWORD)
    return made.user, Caller(admin.auth, changed.session)


async def test_an_account_begins_with_a_password_that_must_be_changed(auth: RunningAuth, admin: Caller) -> None:
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


async def test_the_first_admins_random_password_must_be_changed_and_has_no_rights(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, "")) as auth:
        password = (tmp_path / "secrets" / "admin-password").read_text().strip()
        admin = Caller(auth, await auth.login(password=password))
        assert await refusal(admin("CreateUser", username="ben")) == (
            Code.PERMISSION_DENIED,
            "PASSWORD_CHANGE_REQUIRED",
        )
        changed = await admin("ChangePassword", old_password=password, new_password=PASSWORD)
        await Caller(auth, changed.session)("CreateUser", username="ben")


async def test_a_one_time_password_is_good_for_some_days_only(tmp_path: Path) -> None:
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
async def test_names_and_addresses_that_cannot_be_used(admin: Caller, fields: dict[str, str], reason: str) -> None:
    assert await refusal(admin("CreateUser", **fields)) == (Code.INVALID_ARGUMENT, reason)


async def test_two_users_do_not_have_one_name(admin: Caller) -> None:
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


async def test_only_admins_do_what_admins_do(admin: Caller) -> None:
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


async def test_a_disabled_user_is_out_at_once_and_comes_back_with_the_same_password(
    auth: RunningAuth, admin: Caller
) -> None:
    user, ben = await new_user(admin)
    secret = (await ben("CreateApiToken", name="backup", scopes=["read"])).secret
    await admin("UpdateUser", user_id=user.id, disabled=True)
    assert await refusal(auth.login("ben", PASSWORD)) == (Code.PERMISSION_DENIED, "ACCOUNT_DISABLED")
    assert await refusal(auth.login("ben", "wrong password")) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    assert await refusal(auth.refresh(ben.session.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    exchange = auth_pb2.ExchangeApiTokenRequest(api_token=secret)
    assert await refusal(auth.stub.ExchangeApiToken(exchange)) == (Code.UNAUTHENTICATED, "BAD_API_TOKEN")
    await asyncio.sleep(1.1)
    assert await refusal(ben("GetMe")) == (Code.UNAUTHENTICATED, "SESSION_ENDED")
    await admin("UpdateUser", user_id=user.id, disabled=False)
    await auth.login("ben", PASSWORD)


async def test_a_reset_ends_everything_of_the_user(auth: RunningAuth, admin: Caller) -> None:
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


async def test_rights_given_and_taken(auth: RunningAuth, admin: Caller) -> None:
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


async def test_changing_a_password_takes_the_old_one(auth: RunningAuth, admin: Caller) -> None:
    _, ben = await new_user(admin)
    other = await auth.login("ben", PASSWORD)
    for old, new, answer in (
        ("wrong password", "something new", (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")),
        (PASSWORD, "short", (Code.INVALID_ARGUMENT, "BAD_PASSWORD")),
        (PASSWORD, "x" * 1025, (Code.INVALID_ARGUMENT, "BAD_PASSWORD")),
    ):
        assert await refusal(ben("ChangePassword", old_password=old, new_password=new)) == answer
    long = "ä" * 1024
    changed = await ben("ChangePassword", old_password=PASSWORD, new_password=long)
    await auth.login("ben", long)
    await auth.refresh(changed.session.refresh_token)
    assert await refusal(auth.refresh(other.refresh_token)) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")


async def test_a_password_is_not_the_users_name(admin: Caller) -> None:
    made = await admin("CreateUser", username="somebody")
    first = Caller(admin.auth, await admin.auth.login("somebody", made.one_time_password))
    change = first("ChangePassword", old_password=made.one_time_password, new_password="SomeBody")
    assert await refusal(change) == (Code.INVALID_ARGUMENT, "BAD_PASSWORD")


async def test_own_sessions_are_seen_and_ended(auth: RunningAuth, admin: Caller) -> None:
    _, ben = await new_user(admin)
    request = auth_pb2.LoginRequest(username="ben", password=PASSWORD)
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
    service = Caller(auth, auth_pb2.Session())
    service.token = await auth.service_token("download", auth.settings.shared_service_secret())
    assert session_id in (await service("ListEndedSessions")).session_ids


async def exchange(auth: RunningAuth, secret: str) -> str:
    request = auth_pb2.ExchangeApiTokenRequest(api_token=secret)
    return (await auth.stub.ExchangeApiToken(request, timeout=20)).access_token


async def test_an_api_token_is_good_for_its_scopes(auth: RunningAuth, admin: Caller) -> None:
    made = await admin("CreateApiToken", name="backup", scopes=["read"])
    assert made.secret.startswith("stemtube_")
    script = Caller(auth, admin.session)
    script.token = await exchange(auth, made.secret)
    assert (await script("GetMe")).user.username == "admin"
    assert await refusal(script("ListUsers")) == (Code.PERMISSION_DENIED, "ADMIN_REQUIRED")
    for rpc, fields in (
        ("ChangePassword", {"old_password": ADMIN_PASSWORD, "new_password": PASSWORD}),
        ("CreateApiToken", {"name": "more", "scopes": ["write"]}),
        ("ListSessions", {}),
        ("EndOtherSessions", {}),
        ("CreateUser", {"username": "eve"}),
    ):
        assert await refusal(script(rpc, **fields)) == (Code.PERMISSION_DENIED, "INSUFFICIENT_SCOPE"), rpc

    strong = await admin("CreateApiToken", name="users", scopes=["admin", "read"])
    script.token = await exchange(auth, strong.secret)
    assert (await script("ListUsers")).users
    assert await refusal(script("CreateUser", username="eve")) == (Code.PERMISSION_DENIED, "INSUFFICIENT_SCOPE")

    listed = (await admin("ListApiTokens")).api_tokens
    assert [(token.name, list(token.scopes)) for token in listed] == [
        ("users", ["admin", "read"]),
        ("backup", ["read"]),
    ]
    assert listed[1].HasField("last_use_time")


async def test_an_api_token_ends(auth: RunningAuth, admin: Caller) -> None:
    brief = await admin("CreateApiToken", name="brief", scopes=["read"], lifetime=Duration(nanos=200_000_000))
    made = await admin("CreateApiToken", name="backup", scopes=["read"])
    script = Caller(auth, admin.session)
    script.token = await exchange(auth, made.secret)
    _, ben = await new_user(admin)
    assert (await refusal(ben("DeleteApiToken", api_token_id=made.api_token.id)))[1] == "NO_SUCH_API_TOKEN"
    await admin("DeleteApiToken", api_token_id=made.api_token.id)
    await asyncio.sleep(1.1)
    assert await refusal(script("GetMe")) == (Code.UNAUTHENTICATED, "SESSION_ENDED")
    for secret in (made.secret, brief.secret, "stemtube_nonsense", ""):
        assert await refusal(exchange(auth, secret)) == (Code.UNAUTHENTICATED, "BAD_API_TOKEN")
    assert not (await admin("ListApiTokens")).api_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "", "scopes": ["read"]},
        {"name": "x" * 101, "scopes": ["read"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": ["read"], "lifetime": Duration(seconds=367 * 86400)},
        {"name": "x", "scopes": ["read"], "lifetime": Duration(seconds=-1)},
        {"name": "x", "scopes": ["read"], "lifetime": Duration(seconds=2**62)},
    ],
)
async def test_api_tokens_that_cannot_be_had(admin: Caller, fields: dict[str, Any]) -> None:
    assert await refusal(admin("CreateApiToken", **fields)) == (Code.INVALID_ARGUMENT, "BAD_API_TOKEN")


async def test_an_api_token_takes_the_password_once_the_sign_in_is_some_minutes_old(
    auth: RunningAuth, admin: Caller
) -> None:
    wanted = {"name": "backup", "scopes": ["read"]}
    await admin("CreateApiToken", **wanted)
    for moment in ("-6 minutes", "+6 minutes"):  # and where the clock was set back
        await asyncio.to_thread(begun_at, auth, moment)  # the service may be about to end a transaction here
        assert await refusal(admin("CreateApiToken", **wanted)) == (Code.PERMISSION_DENIED, "PASSWORD_REQUIRED")
    refreshed = Caller(auth, await auth.refresh(admin.session.refresh_token))
    assert await refusal(refreshed("CreateApiToken", **wanted)) == (Code.PERMISSION_DENIED, "PASSWORD_REQUIRED")
    wrong = refreshed("CreateApiToken", **wanted, password="wrong password")
    assert await refusal(wrong) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    assert len((await admin("ListApiTokens")).api_tokens) == 1
    await refreshed("CreateApiToken", **wanted, password=ADMIN_PASSWORD)


async def test_an_api_token_always_takes_the_password_where_the_settings_say_so(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, fresh_sign_in_minutes=0)) as auth:
        admin = Caller(auth, await auth.login())
        wanted = {"name": "backup", "scopes": ["read"]}
        assert await refusal(admin("CreateApiToken", **wanted)) == (Code.PERMISSION_DENIED, "PASSWORD_REQUIRED")
        await admin("CreateApiToken", **wanted, password=ADMIN_PASSWORD)


async def test_a_password_is_not_guessed_by_making_api_tokens(admin: Caller, slow_clock: None) -> None:
    wanted = {"name": "backup", "scopes": ["read"]}
    for _ in range(10):
        await refusal(admin("CreateApiToken", **wanted, password="wrong password"))
    last = admin("CreateApiToken", **wanted, password=ADMIN_PASSWORD)
    assert await refusal(last) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")


@pytest.mark.parametrize("choice", [{}, {"end_api_tokens": True}, {"end_api_tokens": False}], ids=str)
async def test_api_tokens_end_with_the_password_unless_they_are_to_go_on(
    auth: RunningAuth, admin: Caller, choice: dict[str, bool]
) -> None:
    _, ben = await new_user(admin)
    other = (await admin("CreateApiToken", name="the admin's", scopes=["read"])).secret
    secret = (await ben("CreateApiToken", name="backup", scopes=["read"])).secret
    script = Caller(auth, ben.session)
    script.token = await exchange(auth, secret)
    change = {"old_password": PASSWORD, "new_password": "another rather long secret"}
    wrong = ben("ChangePassword", **{**change, "old_password": "wrong password"}, **choice)
    assert await refusal(wrong) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    await exchange(auth, secret)
    ben = Caller(auth, (await ben("ChangePassword", **change, **choice)).session)
    await asyncio.sleep(1.1)
    await exchange(auth, other)
    if choice.get("end_api_tokens", True):
        assert await refusal(exchange(auth, secret)) == (Code.UNAUTHENTICATED, "BAD_API_TOKEN")
        assert await refusal(script("GetMe")) == (Code.UNAUTHENTICATED, "SESSION_ENDED")
        assert not (await ben("ListApiTokens")).api_tokens
    else:
        await exchange(auth, secret)
        await script("GetMe")
        assert [token.name for token in (await ben("ListApiTokens")).api_tokens] == ["backup"]


async def test_a_user_has_so_many_api_tokens(admin: Caller) -> None:
    for number in range(50):
        await admin("CreateApiToken", name=str(number), scopes=["read"])
    more = admin("CreateApiToken", name="50", scopes=["read"])
    assert await refusal(more) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_API_TOKENS")


def register(auth: RunningAuth, username: str = "eve", **fields: str) -> Awaitable[auth_pb2.RegisterResponse]:
    request = auth_pb2.RegisterRequest(username=username, **{"password": PASSWORD, **fields})
    return auth.stub.Register(request, metadata=(("x-client-address", "203.0.113.9"),), timeout=20)


async def test_nobody_registers_unless_the_settings_say_so(auth: RunningAuth) -> None:
    assert await refusal(register(auth)) == (Code.PERMISSION_DENIED, "REGISTRATION_CLOSED")
    assert await auth.stub.GetRegistration(auth_pb2.GetRegistrationRequest()) == auth_pb2.GetRegistrationResponse()


async def test_whoever_comes_registers_where_that_is_open(tmp_path: Path) -> None:
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


async def test_an_invitation_is_good_for_so_many_people(tmp_path: Path) -> None:
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
        assert sum(isinstance(result, auth_pb2.RegisterResponse) for result in results) == 1
        assert not (await admin("ListInvitations")).invitations

        other = await admin("CreateInvitation")
        await admin("DeleteInvitation", invitation_id=other.invitation.id)
        assert await refusal(register(auth, "dan", invitation=other.code)) == bad
        gone = admin("DeleteInvitation", invitation_id=other.invitation.id)
        assert await refusal(gone) == (Code.NOT_FOUND, "NO_SUCH_INVITATION")
        assert (await refusal(admin("CreateInvitation", uses=1001)))[1] == "BAD_INVITATION"


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are over only when a test says so, however busy the machine is."""
    monkeypatch.setattr(throttle, "FIRST_WAIT_SECONDS", 60.0)


def begun_at(auth: RunningAuth, moment: str) -> None:
    """Has all sessions begin at another moment, told as SQLite takes it."""
    with sqlite3.connect(auth.settings.data_dir / "databases" / "auth.sqlite") as file:
        file.execute("UPDATE sessions SET create_time = datetime('now', ?)", (moment,))
    file.close()


def wait_is_over(auth: RunningAuth) -> None:
    with sqlite3.connect(auth.settings.data_dir / "databases" / "auth.sqlite") as file:
        file.execute("UPDATE attempts SET allow_time = last_time")
    file.close()


@pytest.mark.parametrize("username", ["admin", "nobody"])
async def test_after_some_failures_an_account_waits_longer_and_longer(
    auth: RunningAuth, slow_clock: None, username: str
) -> None:
    for _ in range(9):
        assert (await refusal(auth.login(username, "wrong password")))[1] == "BAD_CREDENTIALS"
    waits = []
    for _ in range(6):
        assert (await refusal(auth.login(username, "wrong password")))[1] == "BAD_CREDENTIALS"
        error = await refused(auth.login(username, ADMIN_PASSWORD))
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")
        waits.append(int(error.metadata["retry_after_seconds"]))
        wait_is_over(auth)
    assert [round(wait, -1) for wait in waits] == [60, 120, 240, 480, 900, 900]


async def test_programs_of_one_user_sign_in_at_the_same_moment(auth: RunningAuth, slow_clock: None) -> None:
    await asyncio.gather(*(auth.login() for _ in range(10)))
    await auth.login()


async def test_signing_in_forgets_the_failures(auth: RunningAuth) -> None:
    for _ in range(3):
        for _ in range(9):
            await refusal(auth.login("admin", "wrong password"))
        await auth.login()


async def test_many_guesses_at_once_are_no_way_round_the_wait(auth: RunningAuth, slow_clock: None) -> None:
    guesses = await asyncio.gather(*(refusal(auth.login("admin", f"guess {number}")) for number in range(20)))
    assert sorted(reason for _, reason in guesses) == ["BAD_CREDENTIALS"] * 10 + ["TOO_MANY_ATTEMPTS"] * 10


async def test_an_address_waits_too_whoever_it_tries_to_be(auth: RunningAuth, slow_clock: None) -> None:
    async def guess(number: int, address: str) -> str:
        request = auth_pb2.LoginRequest(username=f"user-{number}", password="wrong password")
        return (await refusal(auth.stub.Login(request, metadata=(("x-client-address", address),))))[1]

    answers = [await guess(number, f"2001:db8::{number:x}") for number in range(31)]
    assert answers == ["BAD_CREDENTIALS"] * 30 + ["TOO_MANY_ATTEMPTS"]
    assert await guess(0, "2001:db8:0:1::1") == "BAD_CREDENTIALS"


async def test_a_changed_password_is_guessed_no_faster(admin: Caller, slow_clock: None) -> None:
    for _ in range(10):
        await refusal(admin("ChangePassword", old_password="wrong password", new_password=PASSWORD))
    change = admin("ChangePassword", old_password=ADMIN_PASSWORD, new_password=PASSWORD)
    assert (await refusal(change))[1] == "TOO_MANY_ATTEMPTS"


async def test_keys_change_and_no_token_is_refused(auth: RunningAuth, admin: Caller) -> None:
    new = (await admin("RotateSigningKey")).key_id
    published = (await auth.stub.ListSigningKeys(auth_pb2.ListSigningKeysRequest())).keys
    assert len(published) == 2
    # The new one signs once every service must know it.
    again = await auth.login()
    assert jwt.get_unverified_header(again.access_token)["kid"] != new
    assert await auth.me(again.access_token) == await auth.me(admin.token)

    withdrawn = (await admin("RotateSigningKey", withdraw_older=True)).key_id
    await asyncio.sleep(1.1)
    assert await refusal(auth.me(admin.token)) == (Code.UNAUTHENTICATED, "BAD_TOKEN")
    renewed = await auth.refresh(admin.session.refresh_token)
    assert jwt.get_unverified_header(renewed.access_token)["kid"] == withdrawn
    assert await auth.me(renewed.access_token) == admin.session.user


async def test_what_admins_and_users_do_is_in_the_audit_log_and_no_secret_is(auth: RunningAuth, admin: Caller) -> None:
    with capture_logs() as lines:
        user, ben = await new_user(admin)
        made = await ben("CreateApiToken", name="backup", scopes=["read"])
        reset = await admin("ResetPassword", user_id=user.id)
        await refusal(auth.login("ben", "not the password"))
        await admin("UpdateUser", user_id=user.id, disabled=True)
    actions = [line["event"] for line in lines if line.get("audit")]
    assert actions == [
        "user created",
        "signed in",
        "password changed",
        "signed in",
        "API access created",
        "password reset",
        "sign-in refused",
        "user changed",
    ]
    for secret in (made.secret, reset.one_time_password, PASSWORD, "not the password", ben.token):
        assert secret not in str(lines)
