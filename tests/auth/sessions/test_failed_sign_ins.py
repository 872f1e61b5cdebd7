"""Guessing passwords takes longer with each failure, per account and per address."""

import asyncio
import sqlite3

import pytest

from services.common.errors import Code
from stemtube.auth.v1 import session_pb2
from tests.auth.calling import PASSWORD, Caller, refusal, refused
from tests.auth.running import ADMIN_PASSWORD, RunningAuth


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


async def test_simultaneous_guesses_do_not_avoid_the_wait(auth: RunningAuth, slow_clock: None) -> None:
    guesses = await asyncio.gather(*(refusal(auth.login("admin", f"guess {number}")) for number in range(20)))
    assert sorted(reason for _, reason in guesses) == ["BAD_CREDENTIALS"] * 10 + ["TOO_MANY_ATTEMPTS"] * 10


async def test_an_address_waits_after_failures_with_any_user_names(auth: RunningAuth, slow_clock: None) -> None:
    async def guess(number: int, address: str) -> str:
        request = session_pb2.LoginRequest(username=f"user-{number}", password="wrong password")
        return (await refusal(auth.stub.Login(request, metadata=(("x-client-address", address),))))[1]

    answers = [await guess(number, f"2001:db8::{number:x}") for number in range(31)]
    assert answers == ["BAD_CREDENTIALS"] * 30 + ["TOO_MANY_ATTEMPTS"]
    assert await guess(0, "2001:db8:0:1::1") == "BAD_CREDENTIALS"


async def test_a_changed_password_is_guessed_no_faster(admin: Caller, slow_clock: None) -> None:
    for _ in range(10):
        await refusal(admin("ChangePassword", old_password="wrong password", new_password=PASSWORD))
    change = admin("ChangePassword", old_password=ADMIN_PASSWORD, new_password=PASSWORD)
    assert (await refusal(change))[1] == "TOO_MANY_ATTEMPTS"
