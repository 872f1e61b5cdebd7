"""The order in which users' links are fetched."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.download.fetching.turns import FetchTurns, Turn


class Users:
    """Asks for turns, and notes in which order users get them."""

    def __init__(self, turns: FetchTurns) -> None:
        self._turns = turns
        self._tasks: list[asyncio.Task[None]] = []
        self.served: list[str] = []
        self.waited: list[str] = []
        self.held: list[tuple[str, Turn]] = []

    async def ask(self, user: str, lane: int = 0) -> asyncio.Task[None]:
        async def hold() -> None:
            async with self._turns.turn(user, lane, lambda: self.waited.append(user)) as turn:
                self.served.append(user)
                self.held.append((user, turn))
                await asyncio.Event().wait()

        task = asyncio.create_task(hold())
        self._tasks.append(task)
        await settle()
        return task

    async def end_one(self, user: str) -> None:
        turn = next(turn for name, turn in self.held if name == user and not turn.ended)
        turn.end()
        await settle()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_user_has_few_turns_and_others_are_served_at_once() -> None:
    users = Users(FetchTurns(8, 2))
    for _ in range(40):
        await users.ask("anna")
    assert users.served == ["anna"] * 2
    await users.ask("ben")
    assert users.served[2:] == ["ben"]
    await users.close()


@pytest.mark.parametrize("total", [1, 2, 3, 8, 16])
async def test_several_users_with_many_links_leave_turns_to_those_who_have_none(total: int) -> None:
    users = Users(FetchTurns(total, 4))
    for number in range(total - 1):
        for _ in range(10):
            await users.ask(f"hostile{number // 2}")
    await users.ask("ben")
    assert "ben" in users.served
    await users.close()


async def test_waiting_users_alternate_and_interactive_work_is_first() -> None:
    users = Users(FetchTurns(2, 1))
    for user in ("anna", "ben"):
        await users.ask(user)
    for user in ("cleo", "cleo", "cleo", "dora"):
        await users.ask(user, lane=1)
    await users.ask("emil")
    await users.ask("anna")
    for user in ("ben", "anna", "emil", "anna", "cleo", "cleo"):
        await users.end_one(user)
    assert users.served == ["anna", "ben", "emil", "anna", "cleo", "dora", "cleo", "cleo"]
    await users.close()


async def test_a_cancelled_user_leaves_the_turn_to_others() -> None:
    users = Users(FetchTurns(1, 1))
    first, second = await users.ask("anna"), await users.ask("ben")
    await users.ask("cleo")
    assert users.waited == ["ben", "cleo"]
    second.cancel()
    first.cancel()
    await settle()
    assert users.served == ["anna", "cleo"]
    await users.close()


async def test_a_turn_that_ended_early_is_released_once() -> None:
    turns = FetchTurns(1, 1)
    async with AsyncExitStack() as stack:
        async with turns.turn("anna", 0, lambda: None) as turn:
            turn.end()
            await stack.enter_async_context(turns.turn("ben", 0, lambda: None))
        waited: list[str] = []
        waiting = asyncio.create_task(stack.enter_async_context(turns.turn("cleo", 0, lambda: waited.append("cleo"))))
        await settle()
        assert waited
        waiting.cancel()
