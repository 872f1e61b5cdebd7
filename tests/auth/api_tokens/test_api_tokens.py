"""API tokens: their scopes, their lifetime, and the conditions for making one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from services.common.errors import Code
from tests.auth.calling import PASSWORD, Caller, begun_at, exchange, new_user, refusal
from tests.auth.running import ADMIN_PASSWORD, RunningAuth, auth_settings, running_auth


async def test_an_api_token_is_valid_for_its_scopes(auth: RunningAuth, admin: Caller) -> None:
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
async def test_invalid_api_tokens_are_refused(admin: Caller, fields: dict[str, Any]) -> None:
    assert await refusal(admin("CreateApiToken", **fields)) == (Code.INVALID_ARGUMENT, "BAD_API_TOKEN")


async def test_an_api_token_requires_the_password_minutes_after_the_sign_in(auth: RunningAuth, admin: Caller) -> None:
    wanted = {"name": "backup", "scopes": ["read"]}
    await admin("CreateApiToken", **wanted)
    for moment in ("-6 minutes", "+6 minutes"):  # also if the clock was set back
        await asyncio.to_thread(begun_at, auth, moment)  # the service may be about to end a transaction here
        assert await refusal(admin("CreateApiToken", **wanted)) == (Code.PERMISSION_DENIED, "PASSWORD_REQUIRED")
    refreshed = Caller(auth, await auth.refresh(admin.session.refresh_token))
    assert await refusal(refreshed("CreateApiToken", **wanted)) == (Code.PERMISSION_DENIED, "PASSWORD_REQUIRED")
    wrong = refreshed("CreateApiToken", **wanted, password="wrong password")
    assert await refusal(wrong) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")
    assert len((await admin("ListApiTokens")).api_tokens) == 1
    await refreshed("CreateApiToken", **wanted, password=ADMIN_PASSWORD)


async def test_a_setting_makes_api_tokens_always_require_the_password(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, fresh_sign_in_minutes=0)) as auth:
        admin = Caller(auth, await auth.login())
        wanted = {"name": "backup", "scopes": ["read"]}
        assert await refusal(admin("CreateApiToken", **wanted)) == (Code.PERMISSION_DENIED, "PASSWORD_REQUIRED")
        await admin("CreateApiToken", **wanted, password=ADMIN_PASSWORD)


async def test_making_api_tokens_does_not_help_to_guess_a_password(admin: Caller, slow_clock: None) -> None:
    wanted = {"name": "backup", "scopes": ["read"]}
    for _ in range(10):
        await refusal(admin("CreateApiToken", **wanted, password="wrong password"))
    last = admin("CreateApiToken", **wanted, password=ADMIN_PASSWORD)
    assert await refusal(last) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")


@pytest.mark.parametrize("choice", [{}, {"end_api_tokens": True}, {"end_api_tokens": False}], ids=str)
async def test_api_tokens_end_when_the_password_changes_unless_they_are_kept(
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


async def test_a_users_api_tokens_are_limited(admin: Caller) -> None:
    for number in range(50):
        await admin("CreateApiToken", name=str(number), scopes=["read"])
    more = admin("CreateApiToken", name="50", scopes=["read"])
    assert await refusal(more) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_API_TOKENS")
