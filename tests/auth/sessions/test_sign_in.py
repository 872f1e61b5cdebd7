"""Signing in and out."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.common.errors import Code
from stemtube.auth.v1 import access_token_pb2
from tests.auth.calling import refused
from tests.auth.running import ADMIN_PASSWORD, RunningAuth, auth_settings, database_file, running_auth


async def test_signing_in_gives_tokens_and_the_user(auth: RunningAuth) -> None:
    session = await auth.login()
    assert session.user.username == "admin"
    assert session.user.admin
    assert abs(session.user.create_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    assert session.expires_in.ToTimedelta() == timedelta(minutes=15)
    assert session.refresh_expires_in.ToTimedelta() == timedelta(days=30)
    assert await auth.me(session.access_token) == session.user


async def test_case_and_encoding_of_a_name_do_not_matter(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, admin_username="Zoë")) as auth:
        for name in ("Zoë", "ZOË", "zoe\N{COMBINING DIAERESIS}"):
            assert (await auth.login(name)).user.username == "Zoë"


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("admin", "wrong password"),
        ("admin", ""),
        ("admin", ADMIN_PASSWORD + " "),
        ("admin", ADMIN_PASSWORD.upper()),
        ("admin", "x" * 100_000),
        ("nobody", ADMIN_PASSWORD),
        ("", ""),
        ("a" * 100_000, ADMIN_PASSWORD),
        ("admin' OR '1'='1", ADMIN_PASSWORD),
    ],
    ids=lambda value: value[:20],
)
async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(
    auth: RunningAuth, username: str, password: str
) -> None:
    error = await refused(auth.login(username, password))
    assert error.code is Code.UNAUTHENTICATED
    assert (error.reason, error.message) == ("BAD_CREDENTIALS", "Unknown user or wrong password.")


async def test_no_byte_of_a_long_password_is_ignored(tmp_path: Path) -> None:
    password = "ä" * 100
    async with running_auth(auth_settings(tmp_path, password)) as auth:
        await auth.login(password=password)
        for other in (password[:-1], password[:36], password[:-1] + "a", password + "ä"):
            assert (await refused(auth.login(password=other))).reason == "BAD_CREDENTIALS"


async def test_a_password_is_hashed_again_when_the_cost_setting_changes(tmp_path: Path) -> None:
    for cost, after_start, after_login in ((4, "$2b$04$", "$2b$04$"), (5, "$2b$04$", "$2b$05$")):
        async with running_auth(auth_settings(tmp_path, bcrypt_cost=cost)) as auth:
            with database_file(auth) as file:
                query = "SELECT password_hash FROM users"
                assert file.execute(query).fetchone()[0].startswith(after_start)
                await auth.login()
                assert file.execute(query).fetchone()[0].startswith(after_login)
                await auth.login()
            file.close()


async def test_signing_out_ends_the_session_once_and_for_all(auth: RunningAuth) -> None:
    session, other = await auth.login(), await auth.login()
    heir = await auth.refresh(session.refresh_token)
    for token in (session.refresh_token, session.refresh_token, heir.refresh_token, "unknown", ""):
        await auth.logout(token)
    assert (await refused(auth.refresh(heir.refresh_token))).reason == "BAD_REFRESH_TOKEN"
    await auth.refresh(other.refresh_token)


async def test_passwords_are_hashed_beside_the_event_loop(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, bcrypt_cost=13)) as auth:
        began = time.monotonic()
        login = asyncio.create_task(auth.login())
        slowest = 0.0
        while not login.done():
            started = time.monotonic()
            await auth.stub.ListSigningKeys(access_token_pb2.ListSigningKeysRequest())
            slowest = max(slowest, time.monotonic() - started)
        await login
        assert slowest < (time.monotonic() - began) / 2
