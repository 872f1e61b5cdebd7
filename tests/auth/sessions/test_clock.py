"""Changing the clock locks nobody out for longer than promised, and ended sessions and tokens stay ended."""

from datetime import UTC, datetime, timedelta

import pytest

from services.auth.api_tokens.api_tokens import ApiTokens
from services.auth.sessions.sessions import Sessions
from services.auth.sessions.throttle import Counter, Throttle
from services.auth.users.repository import UserRepository
from services.common.errors import LimitExceededError
from services.common.storage.database import Database
from tests.auth.conftest import MINUTE, MONTH
from tests.auth.storing import calling, new_admin

DAYS = timedelta(days=3)


class Clock:
    """Auth's clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shift = timedelta(0)
        for module in ("sessions.sessions", "sessions.throttle", "api_tokens.api_tokens", "ending"):
            monkeypatch.setattr(f"services.auth.{module}.now", lambda: datetime.now(UTC) + self.shift)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_a_clock_that_goes_back_locks_no_account(databases: list[Database], clock: Clock) -> None:
    counter = Counter("account", "ada", free=1, longest_wait=MINUTE)
    throttle = Throttle(databases[0])
    clock.shift = DAYS
    await throttle.begin(counter)
    with pytest.raises(LimitExceededError):
        await throttle.begin(counter)
    clock.shift -= MINUTE  # the clocks of two machines may differ by this much
    with pytest.raises(LimitExceededError):
        await throttle.begin(counter)
    clock.shift = timedelta(0)
    await throttle.begin(counter)
    with pytest.raises(LimitExceededError):
        await throttle.begin(counter)


@pytest.mark.parametrize("way", ["end", "sign out", "spent token", "end API token"])
async def test_a_session_ended_after_the_clock_went_back_is_refused_until_its_last_token_expires(
    databases: list[Database], clock: Clock, way: str
) -> None:
    """Its last token was issued by the fast clock, and would be valid in three days."""
    sessions, tokens = Sessions(databases[0], MONTH, MINUTE), ApiTokens(databases[0], MINUTE)
    user = await new_admin(UserRepository(databases[0]))
    _, session_id, first = await sessions.open(user)
    if way == "end API token":
        token, secret = await tokens.create(await calling(sessions, user), "mine", ["read"], MONTH, checked=user)
    clock.shift = DAYS
    if way == "end API token":
        await tokens.use(secret)
    else:
        _, _, second = await sessions.refresh(first)
    clock.shift = timedelta(0)
    if way == "end API token":
        await tokens.use(secret)
        await tokens.end(user.id, session_id := token.id)
    else:
        _, _, third = await sessions.refresh(second)
        if way == "end":
            await sessions.end(user.id, session_id)
        elif way == "sign out":
            await sessions.sign_out(third)
        else:
            with pytest.raises(Exception, match="ended"):
                await sessions.refresh(second)
    clock.shift = DAYS
    await sessions.purge()
    await tokens.purge()
    assert session_id in await sessions.ended()
