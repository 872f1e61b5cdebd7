import asyncio
import statistics
import threading
import time
from collections.abc import Iterator

import bcrypt
import pytest

from services.auth.passwords.hashing import MOST_WAITING, PasswordHasher
from services.auth.passwords.rules import checked_password
from services.common.errors import InvalidInputError, LimitExceededError
from services.common.limits import MAX_PASSWORD
from services.common.rpc.peers import Client, set_client


@pytest.fixture
def hasher() -> Iterator[PasswordHasher]:
    hasher = PasswordHasher(cost=4, threads=2)
    yield hasher
    hasher.close()


@pytest.mark.parametrize("password", ["password", "Password1", "1q2w3e4r", "qwertyuiop", "iloveyou"])
def test_a_common_password_is_refused(password: str) -> None:
    with pytest.raises(InvalidInputError, match="too common") as refused:
        checked_password(password, "anna")
    assert refused.value.reason == "BAD_PASSWORD"
    assert checked_password(f"{password} on the hill", "anna")


@pytest.mark.parametrize("password", ["stemtube", "StemTube123", "StemTubeAnna1", "annaanna", "Anna!Anna!"])
def test_a_password_of_little_more_than_a_name_is_refused(password: str) -> None:
    with pytest.raises(InvalidInputError, match="user's name") as refused:
        checked_password(password, "anna")
    assert refused.value.reason == "BAD_PASSWORD"
    assert checked_password(f"{password} on the hill", "anna")
    assert checked_password("a rather long secret", "x")


@pytest.mark.parametrize("password", ["hunter2!", "pä55wört", "x" * 72, "x" * 73, "x" * MAX_PASSWORD, "a\0b", ""])
async def test_a_hash_matches_its_password_and_no_other(hasher: PasswordHasher, password: str) -> None:
    hashed = await hasher.hash(password)
    assert hashed.startswith("$2b$04$")
    assert await hasher.matches(password, hashed)
    for other in (password + "x", password[:-1] or "y", password.replace("b", "c") + " "):
        assert not await hasher.matches(other, hashed)


async def test_two_hashes_of_one_password_differ(hasher: PasswordHasher) -> None:
    assert await hasher.hash("hunter2!") != await hasher.hash("hunter2!")


async def test_equivalent_unicode_forms_are_the_same_password(hasher: PasswordHasher) -> None:
    assert await hasher.matches("e\N{COMBINING ACUTE ACCENT}tude", await hasher.hash("étude"))


async def test_no_password_matches_an_unknown_user(hasher: PasswordHasher) -> None:
    assert not await hasher.matches("hunter2!", None)


async def test_a_password_beyond_the_limit_matches_nothing_not_even_itself(hasher: PasswordHasher) -> None:
    password = "x" * (MAX_PASSWORD + 1)
    assert not await hasher.matches(password, await hasher.hash(password))


async def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    hasher = PasswordHasher(cost=9, threads=1)
    hashed = await hasher.hash("hunter2!")

    async def seconds(against: str | None) -> float:
        started = time.perf_counter()
        await hasher.matches("wrong", against)
        return time.perf_counter() - started

    pairs = [(await seconds(hashed), await seconds(None)) for _ in range(7)]
    known, unknown = (statistics.median(times) for times in zip(*pairs, strict=True))
    hasher.close()
    assert 0.5 < unknown / known < 2


async def test_no_more_passwords_are_hashed_at_once_than_allowed() -> None:
    hasher = PasswordHasher(cost=8, threads=2)
    await asyncio.gather(*(hasher.hash("hunter2!") for _ in range(8)))
    assert sum(thread.name.startswith("bcrypt") for thread in threading.enumerate()) <= 2
    hasher.close()


async def test_a_flood_from_one_address_does_not_prevent_other_sign_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shares, later sign-ins would wait for the whole flood, or be refused by the full queue."""
    hasher = PasswordHasher(cost=4, threads=1)
    go_on = threading.Event()
    real = bcrypt.hashpw
    monkeypatch.setattr(bcrypt, "hashpw", lambda *given: real(*given) if go_on.wait(60) else b"")
    order: list[str] = []

    async def sign_in(network: str) -> None:
        set_client(Client(network))
        await hasher.hash("hunter2!")
        order.append(network)

    flood = [asyncio.create_task(sign_in("192.0.2.1")) for _ in range(MOST_WAITING + 50)]
    await asyncio.sleep(0)
    others = [asyncio.create_task(sign_in(f"198.51.100.{number}")) for number in range(5)]
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*others)
        ends = await asyncio.gather(*flood, return_exceptions=True)
    assert all(f"198.51.100.{number}" in order[:8] for number in range(5))
    refused = [end for end in ends if isinstance(end, LimitExceededError)]
    assert len(refused) == len(flood) + len(others) - 1 - MOST_WAITING
    assert {(end.reason, end.metadata["retry_after_seconds"]) for end in refused} == {("TOO_MANY_WAITING", "5")}
    hasher.close()


def test_a_hash_with_another_cost_is_outdated(hasher: PasswordHasher) -> None:
    assert not hasher.is_outdated("$2b$04$" + "." * 53)
    assert hasher.is_outdated("$2b$12$" + "." * 53)
