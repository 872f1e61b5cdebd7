"""Requests that run while an account changes: sign-ins, passwords, tokens, admin calls; on both databases."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from services.auth.tables import ApiToken, Invitation, StoredKey, User
from services.common.errors import Code
from services.common.rpc.auth import bearer
from services.common.rpc.client import domain_error
from stemtube.auth.v1 import account_pb2, import_pb2, session_pb2
from tests.auth.calling import PASSWORD, Caller, exchange, new_user, refusal, register
from tests.auth.racing import (
    ANOTHER,
    PATIENCE,
    Account,
    Change,
    Gate,
    choose_another,
    demote,
    disable,
    reason_of,
    remove,
    reset,
)
from tests.auth.running import RunningAuth, auth_settings, running_auth
from tests.common.postgres import create_database

AT_ONCE = 6


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds calls that have checked a password."""
    return Gate(monkeypatch, "matches")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds calls that have hashed a new password."""
    return Gate(monkeypatch, "hash")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return create_database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/auth.sqlite"


@pytest.fixture
async def auth(tmp_path: Path, database_url: str) -> AsyncIterator[RunningAuth]:
    async with running_auth(auth_settings(tmp_path, database_url=database_url)) as auth:
        yield auth


@pytest.fixture
async def account(auth: RunningAuth) -> Account:
    admin = Caller(auth, await auth.login())
    user, _ = await new_user(admin)
    await admin("UpdateUser", user_id=user.id, admin=True)
    return Account(auth, admin, user, Caller(auth, await auth.login("ben", PASSWORD)))


BAD_CREDENTIALS = (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
SESSION_ENDED = (Code.UNAUTHENTICATED, "SESSION_ENDED")
DISABLED = (Code.PERMISSION_DENIED, "ACCOUNT_DISABLED")


@pytest.mark.parametrize(
    ("change", "answer", "left"),
    [
        (disable, DISABLED, 0),
        (choose_another, BAD_CREDENTIALS, 1),
        (reset, BAD_CREDENTIALS, 0),
        (remove, BAD_CREDENTIALS, 0),
    ],
)
async def test_a_running_sign_in_is_refused_after_a_change(
    account: Account, checked: Gate, change: Change, answer: tuple[Code, str], left: int
) -> None:
    held = await checked.hold([account.login() for _ in range(AT_ONCE)])
    await change(account)
    assert [reason_of(outcome) for outcome in await checked.let_go(held)] == [answer] * AT_ONCE
    assert await account.open_sessions() == left


async def test_a_running_sign_in_gets_the_remaining_rights(account: Account, checked: Gate) -> None:
    held = await checked.hold([account.login() for _ in range(AT_ONCE)])
    await demote(account)
    for session in await checked.let_go(held):
        assert not session.user.admin
        assert await refusal(Caller(account.auth, session)("ListUsers")) == (Code.PERMISSION_DENIED, "ADMIN_REQUIRED")


async def test_a_running_sign_in_with_a_replaced_one_time_password_is_refused(account: Account, checked: Gate) -> None:
    first = (await account.admin("ResetPassword", user_id=account.user.id)).one_time_password
    ben = Caller(account.auth, await account.auth.login("ben", first))
    held = await checked.hold([account.auth.login("ben", first) for _ in range(AT_ONCE)])
    await ben("ChangePassword", old_password=first, new_password=PASSWORD)
    assert [reason_of(outcome) for outcome in await checked.let_go(held)] == [BAD_CREDENTIALS] * AT_ONCE


@pytest.mark.parametrize(
    ("change", "answer"), [(disable, DISABLED), (reset, BAD_CREDENTIALS), (remove, BAD_CREDENTIALS)]
)
async def test_a_running_password_change_is_refused_after_another_change(
    account: Account, checked: Gate, change: Change, answer: tuple[Code, str]
) -> None:
    (held,) = await checked.hold([account.ben("ChangePassword", old_password=PASSWORD, new_password=ANOTHER)])
    await change(account)
    assert [reason_of(outcome) for outcome in await checked.let_go([held])] == [answer]
    assert await account.open_sessions() == 0
    assert await refusal(account.auth.login("ben", ANOTHER)) == BAD_CREDENTIALS


@pytest.mark.parametrize("one_time", [False, True], ids=["own", "one-time"])
async def test_only_one_of_simultaneous_password_changes_succeeds(
    account: Account, checked: Gate, one_time: bool
) -> None:
    old = PASSWORD
    if one_time:
        old = (await account.admin("ResetPassword", user_id=account.user.id)).one_time_password
    sessions = [Caller(account.auth, await account.auth.login("ben", old)) for _ in range(AT_ONCE)]
    new = [f"new password number {number}" for number in range(AT_ONCE)]
    held = await checked.hold(
        [me("ChangePassword", old_password=old, new_password=own) for me, own in zip(sessions, new, strict=True)]
    )
    outcomes = await checked.let_go(held)
    (winner,) = (number for number, one in enumerate(outcomes) if isinstance(one, account_pb2.ChangePasswordResponse))
    assert {reason_of(one) for number, one in enumerate(outcomes) if number != winner} == {BAD_CREDENTIALS}
    assert await account.open_sessions() == 1
    await account.auth.refresh(outcomes[winner].session.refresh_token)
    await account.auth.login("ben", new[winner])


@pytest.mark.parametrize("change", [disable, demote, choose_another, reset, remove])
async def test_no_api_token_is_made_after_a_change(account: Account, checked: Gate, change: Change) -> None:
    wanted = {"name": "mine", "scopes": ["read", "admin"], "password": PASSWORD}
    held = await checked.hold([account.ben("CreateApiToken", **wanted) for _ in range(AT_ONCE)])
    await change(account)
    assert {reason_of(outcome) for outcome in await checked.let_go(held)} == {SESSION_ENDED}
    assert await account.good_tokens() == 0


async def imports(account: Account) -> Any:
    request = import_pb2.ImportUsersRequest(users=[import_pb2.UserToImport(username="eve", admin=True)])
    return await account.auth.stub.ImportUsers(request, metadata=bearer(account.ben.token), timeout=20)


ADMINS_WORK: list[Callable[[Account], Awaitable[Any]]] = [
    lambda account: account.ben("CreateUser", username="eve", admin=True),
    lambda account: account.ben("ResetPassword", user_id=account.admin.session.user.id),
    imports,
]


@pytest.mark.parametrize("change", [disable, demote, reset])
@pytest.mark.parametrize("work", ADMINS_WORK, ids=["create", "reset", "import"])
async def test_a_running_request_of_an_admin_is_refused_after_a_change(
    account: Account, hashed: Gate, change: Change, work: Callable[[Account], Awaitable[Any]]
) -> None:
    held = await hashed.hold([work(account)])
    await change(account)
    assert [reason_of(outcome) for outcome in await hashed.let_go(held)] == [SESSION_ENDED]
    assert await account.count(User) == 2
    await account.auth.login()


async def test_a_quick_request_of_a_former_admin_is_refused(account: Account) -> None:
    await demote(account)
    for rpc, fields in (
        ("UpdateUser", {"user_id": account.user.id, "admin": True}),
        ("CreateInvitation", {}),
        ("RotateSigningKey", {"withdraw_older": True}),
        ("CreateApiToken", {"name": "mine", "scopes": ["read"]}),
    ):
        assert await refusal(account.ben(rpc, **fields)) == SESSION_ENDED, rpc
    counts = [await account.count(table) for table in (Invitation, StoredKey, ApiToken)]
    assert counts == [0, 1, 0]


async def test_simultaneous_sign_ins_with_an_outdated_hash_all_succeed(
    tmp_path: Path, database_url: str, checked: Gate
) -> None:
    async with running_auth(auth_settings(tmp_path, database_url=database_url)) as auth:
        admin = Caller(auth, await auth.login())
        user, ben = await new_user(admin)
    async with running_auth(auth_settings(tmp_path, database_url=database_url, bcrypt_cost=5)) as auth:
        account = Account(auth, admin, user, ben)
        outcomes = await checked.let_go(await checked.hold([account.login() for _ in range(AT_ONCE)]))
        assert [outcome.user.username for outcome in outcomes] == ["ben"] * AT_ONCE
        assert await account.count(User, User.id == user.id, User.password_hash.startswith("$2b$05$")) == 1


async def test_renewing_a_hash_does_not_overwrite_a_newer_password(
    tmp_path: Path, database_url: str, checked: Gate
) -> None:
    async with running_auth(auth_settings(tmp_path, database_url=database_url)) as auth:
        user, ben = await new_user(Caller(auth, await auth.login()))
    async with running_auth(auth_settings(tmp_path, database_url=database_url, bcrypt_cost=5)) as auth:
        account = Account(auth, Caller(auth, await auth.login()), user, ben)
        held = await checked.hold([account.login()])
        await reset(account)
        assert [reason_of(outcome) for outcome in await checked.let_go(held)] == [BAD_CREDENTIALS]
        assert await refusal(account.login()) == BAD_CREDENTIALS


async def test_simultaneous_uses_of_an_invitation_do_not_exceed_its_limit(
    tmp_path: Path, database_url: str, hashed: Gate
) -> None:
    async with running_auth(auth_settings(tmp_path, database_url=database_url, registration="invitation")) as auth:
        admin = Caller(auth, await auth.login())
        code = (await admin("CreateInvitation", uses=2)).code
        held = await hashed.hold([register(auth, f"guest-{n}", invitation=code) for n in range(AT_ONCE)])
        outcomes = await hashed.let_go(held)
        refusals = [one for one in outcomes if isinstance(one, BaseException)]
        assert {reason_of(one) for one in refusals} == {(Code.PERMISSION_DENIED, "BAD_INVITATION")}
        assert len(refusals) == AT_ONCE - 2


async def test_only_one_of_simultaneous_registrations_gets_a_name(
    tmp_path: Path, database_url: str, hashed: Gate
) -> None:
    async with running_auth(auth_settings(tmp_path, database_url=database_url, registration="invitation")) as auth:
        admin = Caller(auth, await auth.login())
        code = (await admin("CreateInvitation", uses=AT_ONCE)).code
        held = await hashed.hold([register(auth, name, invitation=code) for name in ("Eve", "eve", "EVE", "evE")])
        outcomes = await hashed.let_go(held)
        refusals = [reason_of(one) for one in outcomes if isinstance(one, BaseException)]
        assert refusals == [(Code.ALREADY_EXISTS, "USERNAME_TAKEN")] * 3
        assert (await admin("ListInvitations")).invitations[0].uses_left == AT_ONCE - 1


async def test_a_running_registration_with_a_revoked_invitation_is_refused(
    tmp_path: Path, database_url: str, hashed: Gate
) -> None:
    async with running_auth(auth_settings(tmp_path, database_url=database_url, registration="invitation")) as auth:
        admin = Caller(auth, await auth.login())
        made = await admin("CreateInvitation", uses=AT_ONCE)
        held = await hashed.hold([register(auth, f"guest-{n}", invitation=made.code) for n in range(AT_ONCE)])
        await admin("DeleteInvitation", invitation_id=made.invitation.id)
        outcomes = {reason_of(one) for one in await hashed.let_go(held)}
        assert outcomes == {(Code.PERMISSION_DENIED, "BAD_INVITATION")}


class Credentials:
    """The sessions and tokens that many programs of one user get while the account changes."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.access_tokens: list[str] = []
        self.refresh_tokens: list[str] = []
        self.api_tokens: list[str] = []
        self._changed = asyncio.Event()

    async def around(self, change: Change, *steps: Callable[[], Awaitable[None]]) -> None:
        """Repeats all steps in parallel, makes the change once each has succeeded, and ends when each is refused."""
        started = [asyncio.Event() for _ in steps]
        async with asyncio.timeout(3 * PATIENCE), asyncio.TaskGroup() as group:
            for step, event in zip(steps, started, strict=True):
                group.create_task(self._keep_on(step, event))
            for event in started:
                await event.wait()
            await change(self.account)
            self._changed.set()

    async def _keep_on(self, step: Callable[[], Awaitable[None]], started: asyncio.Event) -> None:
        is_last = False
        while not is_last:
            is_last = self._changed.is_set()
            try:
                await step()
                started.set()
            except grpc.aio.AioRpcError as error:
                if domain_error(error).code is Code.INTERNAL:
                    raise
                if not self._changed.is_set():
                    await asyncio.sleep(0.01)

    def keep(self, session: session_pb2.Session) -> None:
        self.access_tokens.append(session.access_token)
        self.refresh_tokens.append(session.refresh_token)

    async def sign_in(self) -> None:
        self.keep(await self.account.login())

    def refreshing(self, session: session_pb2.Session) -> Callable[[], Awaitable[None]]:
        last = [session.refresh_token]

        async def refresh() -> None:
            renewed = await self.account.auth.refresh(last[0])
            last[0] = renewed.refresh_token
            self.keep(renewed)

        return refresh

    def exchanging(self, secret: str) -> Callable[[], Awaitable[None]]:
        async def use() -> None:
            self.access_tokens.append(await exchange(self.account.auth, secret))

        return use

    async def make_a_token(self) -> None:
        made = await self.account.ben("CreateApiToken", name="mine", scopes=["read", "admin"])
        self.api_tokens.append(made.secret)
        await self.account.ben("DeleteApiToken", api_token_id=made.api_token.id)


async def refused_soon(call: Callable[[], Awaitable[Any]]) -> None:
    """Waits until an RPC is refused because the caller has lost the right to it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if domain_error(error).code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
                    return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("change", [disable, demote, choose_another, reset])
async def test_sessions_and_tokens_made_during_a_change_do_not_survive_it(account: Account, change: Change) -> None:
    auth, credentials = account.auth, Credentials(account)
    secret = (await account.ben("CreateApiToken", name="old", scopes=["read", "admin"])).secret
    sessions = [await account.login() for _ in range(3)]
    await credentials.around(
        change,
        *(credentials.sign_in for _ in range(3)),
        *(credentials.refreshing(session) for session in sessions),
        *(credentials.exchanging(secret) for _ in range(3)),
        credentials.make_a_token,
    )
    if change is not demote:  # a demoted admin can still sign in
        assert await account.open_sessions() == (1 if change is choose_another else 0)
    assert await account.good_tokens() == 0
    for access_token in {account.ben.token, *credentials.access_tokens}:
        bearing = Caller(auth, session_pb2.Session(access_token=access_token))
        await refused_soon(lambda bearing=bearing: bearing("ListUsers"))  # type: ignore[misc]
