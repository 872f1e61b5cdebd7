"""Decides whose link is fetched next: a limited number in all and of each user, with room for users who have none."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Turn:
    """A link that is fetched or waits for its turn. `end` may be called before the end of the block."""

    user: str
    lane: int
    number: int
    granted: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    end: Callable[[], None] = lambda: None


class FetchTurns:
    """The turns for fetching in this process.

    A user gets a second turn only while more than half of all turns are free. Interactive work goes before batch work,
    then users with fewer turns before others, then the user whose last turn began longest ago.

    Args:
        total: links fetched at a time.
        per_user: links of one user fetched at a time.
    """

    def __init__(self, total: int, per_user: int) -> None:
        self._total = total
        self._per_user = per_user
        self._taken: Counter[str] = Counter()
        self._waiting: list[Turn] = []
        self._served: dict[str, int] = {}
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def turn(self, user: str, lane: int, on_wait: Callable[[], None]) -> AsyncIterator[Turn]:
        """Waits for a turn, and holds it until the end of the block or the call of its `end`.

        Args:
            user: the user who wants the link.
            lane: 0 for interactive work, 1 for batch work.
            on_wait: called if no turn is free.
        """
        turn = Turn(user, lane, next(self._numbers))
        turn.end = lambda: self._end(turn)
        self._waiting.append(turn)
        try:
            self._grant()
            if not turn.granted.is_set():
                on_wait()
                await turn.granted.wait()
            yield turn
        finally:
            self._end(turn)

    def _end(self, turn: Turn) -> None:
        if turn.ended:
            return
        turn.ended = True
        if not turn.granted.is_set():
            self._waiting.remove(turn)
            return
        self._taken[turn.user] -= 1
        if not self._taken[turn.user]:
            del self._taken[turn.user]
        self._grant()

    def _grant(self) -> None:
        while allowed := [turn for turn in self._waiting if self._is_allowed(turn.user)]:
            turn = min(allowed, key=self._order)
            self._waiting.remove(turn)
            self._taken[turn.user] += 1
            self._served[turn.user] = next(self._numbers)
            turn.granted.set()
        waiting = {turn.user for turn in self._waiting} | set(self._taken)
        self._served = {user: number for user, number in self._served.items() if user in waiting}

    def _is_allowed(self, user: str) -> bool:
        free = self._total - self._taken.total()
        taken = self._taken[user]
        return free > 0 if not taken else taken < self._per_user and free > self._total // 2

    def _order(self, turn: Turn) -> tuple[int, int, int, int]:
        return turn.lane, self._taken[turn.user], self._served.get(turn.user, -1), turn.number
