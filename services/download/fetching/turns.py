"""Who may fetch next: few links at a time, few of one user, and always room for somebody who has none."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Turn:
    """One link that is fetched, or waits for that; `end` may be called early."""

    user: str
    lane: int
    number: int
    granted: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    end: Callable[[], None] = lambda: None


class FetchTurns:
    """Turns at fetching, in this process.

    A user's second turn is given only while at least half of all turns stay free for others. Of those who wait, the one
    who has the fewest turns is next, interactive work before batch; then it goes by who was served longest ago.

    Args:
        total: links that are fetched at a time.
        per_user: of one user.
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
        """Holds a turn as long as the context lasts, or until its `end`.

        Args:
            user: whose link it is.
            lane: 0 before 1.
            on_wait: called if there is none at once.
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
