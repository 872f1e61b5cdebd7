"""Users in both kinds of database, with several replicas."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.auth.sessions.sessions import Sessions
from services.auth.users.repository import UserRepository
from services.common.errors import PreconditionError
from tests.auth.storing import calling, new_admin


async def test_replicas_that_start_at_once_create_one_admin_and_keep_one_password(
    repositories: list[UserRepository],
) -> None:
    kept: list[str] = []

    def create(users: UserRepository, number: int) -> "asyncio.Future[bool]":
        name = f"admin-{number}"
        return asyncio.ensure_future(users.create_first_admin(name, "hash", lambda: kept.append(name)))

    created = await asyncio.gather(*(create(users, number) for number, users in enumerate(repositories)))
    assert sorted(created) == [False, False, True]
    assert len(kept) == 1
    assert await repositories[0].user_named(kept[0])
    assert await repositories[0].has_users()


@pytest.mark.parametrize("change", [{"disabled": True}, {"admin": False}], ids=["disable", "demote"])
async def test_two_admins_cannot_shut_each_other_out(
    repositories: list[UserRepository], sessions: list[Sessions], change: dict[str, bool]
) -> None:
    ada = await new_admin(repositories[0])
    bob = await repositories[0].create("bob", "hash", admin=True)
    callers = [await calling(sessions[0], user) for user in (ada, bob)]
    both = (
        repositories[1].change(ada.id, change, by=callers[1]),
        repositories[2].change(bob.id, change, by=callers[0]),
    )
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    # The second admin has lost the rights by then.
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["UnauthenticatedError", "User"]


async def test_only_one_of_the_last_two_admins_can_be_demoted(
    repositories: list[UserRepository], sessions: list[Sessions]
) -> None:
    ada = await new_admin(repositories[0])
    bob = await repositories[0].create("bob", "hash", admin=True)
    going = [
        repositories[number].change(user.id, {"admin": False}, by=await calling(sessions[0], user))
        for number, user in enumerate((ada, bob))
    ]
    outcomes = await asyncio.gather(*going, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["PreconditionError", "User"]


async def test_an_admin_whose_one_time_password_is_over_cannot_sign_in_and_does_not_count(
    repositories: list[UserRepository], sessions: list[Sessions]
) -> None:
    ada = await new_admin(repositories[0])
    await repositories[0].create(
        "bob", "hash", admin=True, must_change_password=True, password_expire_time=datetime.now(UTC)
    )
    with pytest.raises(PreconditionError):
        await repositories[0].change(ada.id, {"admin": False}, by=await calling(sessions[0], ada))
