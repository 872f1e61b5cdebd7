"""Sessions in both kinds of database, with several replicas."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.auth.api_tokens.api_tokens import ApiTokens
from services.auth.sessions.sessions import Sessions
from services.auth.tables import RefreshToken, Session, User
from services.auth.users.repository import UserRepository
from services.common.errors import UnauthenticatedError
from services.common.storage.database import Database
from tests.auth.conftest import MINUTE, MONTH
from tests.auth.storing import calling, count, new_admin


async def test_one_of_many_simultaneous_refreshes_succeeds(
    repositories: list[UserRepository], sessions: list[Sessions]
) -> None:
    user = await new_admin(repositories[0])
    for _ in range(5):
        _, _, token = await sessions[0].open(user)
        results = await asyncio.gather(*(one.refresh(token) for one in sessions), return_exceptions=True)
        refused = [result for result in results if isinstance(result, BaseException)]
        assert len(refused) == 2
        assert all(isinstance(error, UnauthenticatedError) for error in refused)


async def test_purging_deletes_only_expired_rows(databases: list[Database]) -> None:
    lasting, fleeting = Sessions(databases[0], MONTH, MINUTE), Sessions(databases[1], timedelta(0), MINUTE)
    user = await new_admin(UserRepository(databases[0]))
    _, _, first = await lasting.open(user)
    await lasting.refresh(first)
    await fleeting.open(user)
    await lasting.purge()
    assert await count(databases[0], RefreshToken) == 2
    assert await count(databases[0], Session) == 1
    with pytest.raises(UnauthenticatedError):  # the spent one is still known as spent
        await lasting.refresh(first)


async def test_ended_sessions_are_listed_for_a_day_for_services_that_could_not_reach_auth(
    databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, tokens = Sessions(databases[0], timedelta(hours=1), MINUTE), ApiTokens(databases[1], MINUTE)
    user = await new_admin(UserRepository(databases[0]))
    _, session_id, _ = await sessions.open(user)
    token, _ = await tokens.create(await calling(sessions, user), "mine", ["read"], MONTH, checked=user)
    await sessions.end(user.id, session_id)
    await tokens.end(user.id, token.id)
    for hours, listed in ((23, {session_id, token.id}), (25, set())):
        monkeypatch.setattr(
            "services.auth.sessions.sessions.now", lambda hours=hours: datetime.now(UTC) + timedelta(hours=hours)
        )
        await sessions.purge()
        assert await sessions.ended() == listed


async def test_all_ended_sessions_with_valid_tokens_are_listed(
    databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.auth.sessions.sessions.MOST_LISTED", 2)
    user = await new_admin(UserRepository(databases[0]))
    sessions = Sessions(databases[0], MONTH, MINUTE)
    opened = [(await sessions.open(user))[1] for _ in range(4)]
    for session_id in opened:
        await sessions.end(user.id, session_id)
    assert await sessions.ended() == set(opened)
    monkeypatch.setattr("services.auth.sessions.sessions.now", lambda: datetime.now(UTC) + timedelta(minutes=10))
    assert await sessions.ended() == set(opened[2:])


async def test_sessions_go_with_their_user(
    databases: list[Database], repositories: list[UserRepository], sessions: list[Sessions]
) -> None:
    user = await new_admin(repositories[0])
    await sessions[0].open(user)
    async with databases[0].write() as session:
        await session.delete(await session.get_one(User, user.id))
    assert await count(databases[0], Session) == 0
    assert await count(databases[0], RefreshToken) == 0
