"""Refresh tokens."""

import asyncio
import hashlib
from pathlib import Path

import jwt
import pytest

from services.common.errors import Code
from stemtube.auth.v1 import session_pb2
from tests.auth.calling import refused
from tests.auth.running import ADMIN_PASSWORD, RunningAuth, auth_settings, database_file, running_auth


async def test_a_refresh_token_gives_the_next_one(auth: RunningAuth) -> None:
    first = await auth.login()
    second = await auth.refresh(first.refresh_token)
    third = await auth.refresh(second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert await auth.me(third.access_token) == first.user
    ids = {jwt.decode(one.access_token, options={"verify_signature": False})["sid"] for one in (first, second, third)}
    assert len(ids) == 1


async def test_a_reused_refresh_token_ends_its_session_and_no_other(auth: RunningAuth) -> None:
    stolen, other = await auth.login(), await auth.login()
    heir = await auth.refresh(stolen.refresh_token)
    for token in (stolen.refresh_token, heir.refresh_token, stolen.refresh_token):
        error = await refused(auth.refresh(token))
        assert (error.code, error.reason) == (Code.UNAUTHENTICATED, "BAD_REFRESH_TOKEN")
    await auth.refresh(other.refresh_token)


async def test_one_of_two_simultaneous_refreshes_is_told_that_the_session_ended(auth: RunningAuth) -> None:
    token = (await auth.login()).refresh_token
    results = await asyncio.gather(*(auth.refresh(token) for _ in range(5)), return_exceptions=True)
    renewed = [result for result in results if isinstance(result, session_pb2.Session)]
    assert len(renewed) == 1
    assert (await refused(auth.refresh(renewed[0].refresh_token))).reason == "BAD_REFRESH_TOKEN"


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 100_000], ids=["empty", "nonsense", "long"])
async def test_an_unknown_refresh_token_is_refused(auth: RunningAuth, token: str) -> None:
    assert (await refused(auth.refresh(token))).reason == "BAD_REFRESH_TOKEN"


async def test_a_refresh_token_expires(tmp_path: Path) -> None:
    async with running_auth(auth_settings(tmp_path, refresh_token_days=0.05 / 86400)) as auth:
        session = await auth.login()
        await asyncio.sleep(0.1)
        assert (await refused(auth.refresh(session.refresh_token))).reason == "BAD_REFRESH_TOKEN"
        assert await auth.me(session.access_token) == session.user


async def test_a_disabled_user_gets_no_token_for_a_session_that_is_still_open(auth: RunningAuth) -> None:
    """The session stays open until disabling the user ends it."""
    token = (await auth.login()).refresh_token
    for disabled in (True, False):
        with database_file(auth) as file:
            file.execute("UPDATE users SET disabled = ?", (disabled,))
            assert file.execute("SELECT count(*) FROM sessions WHERE end_time IS NULL").fetchone() == (1,)
        file.close()
        if disabled:
            assert (await refused(auth.refresh(token))).reason == "BAD_REFRESH_TOKEN"
        else:
            await auth.refresh(token)


async def test_refresh_tokens_are_stored_as_hashes_only(auth: RunningAuth) -> None:
    token = (await auth.login()).refresh_token
    files = (auth.settings.data_dir / "databases").glob("auth.sqlite*")
    content = b"".join(file.read_bytes() for file in files)
    assert token.encode() not in content
    assert ADMIN_PASSWORD.encode() not in content
    assert hashlib.sha256(token.encode()).digest() in content
