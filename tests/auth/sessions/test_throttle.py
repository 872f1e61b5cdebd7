"""Counters of attempts in both kinds of database, with several replicas."""

import asyncio

from services.auth.sessions.throttle import Counter, Throttle
from services.common.storage.database import Database
from tests.auth.conftest import MINUTE


async def test_attempts_are_counted_for_all_replicas(databases: list[Database]) -> None:
    counter = Counter("account", "ada", free=2, longest_wait=MINUTE)
    throttles = [Throttle(database) for database in databases]
    begun = await asyncio.gather(*(one.begin(counter) for one in throttles), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in begun) == ["LimitExceededError", "NoneType", "NoneType"]
    await throttles[0].succeeded(counter)
    await throttles[1].begin(counter)
