"""Places for concurrent work, shared fairly among users.

A limiter has a number of places. One user can take only a few of them. Users who wait take turns. The number of waiting
callers is bounded; further callers are told to come back later. Everything happens on one event loop.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import prometheus_client

from services.common.errors import LimitExceededError

TOO_MANY_WAITING = "TOO_MANY_WAITING"
PLACES = prometheus_client.Gauge(
    "stemtube_places", "Work that has a place, and work that waits for one.", ["limiter", "state"]
)
REFUSALS = prometheus_client.Counter(
    "stemtube_places_refused_total", "Work that was refused because too much waited already.", ["limiter"]
)


@dataclass(eq=False, slots=True)
class _Waiter:
    user: str
    patient: bool
    # True: it has a place. False: it is refused.
    answer: asyncio.Future[bool]

    @property
    def has_place(self) -> bool:
        return self.answer.done() and not self.answer.cancelled() and self.answer.result()

    @property
    def may_be_refused(self) -> bool:
        return not (self.patient or self.answer.done())


class Place:
    """A place that a caller holds.

    Args:
        user: the caller's user.
        on_change: called when the place can be recalled.
    """

    def __init__(self, user: str, on_change: Callable[[], None]) -> None:
        self.user = user
        self._on_change = on_change
        self._give_way: Callable[[], None] | None = None
        self._is_recalled = False

    @property
    def is_recalled(self) -> bool:
        """Whether the holder was asked to give the place back."""
        return self._is_recalled

    @property
    def can_be_recalled(self) -> bool:
        """Whether the holder can be asked now."""
        return self._give_way is not None and not self._is_recalled

    @contextlib.contextmanager
    def recallable(self, give_way: Callable[[], None]) -> Iterator[None]:
        """Within the context, `give_way` is called, at most once, if a user without a place needs this one.

        It must make the holder give the place back soon.
        """
        self._give_way = give_way
        try:
            self._on_change()
            yield
        finally:
            self._give_way = None

    def recall(self) -> None:
        """Asks the holder to give the place back."""
        assert self._give_way is not None
        self._is_recalled = True
        self._give_way()


class FairLimiter:
    """Gives places to users in turn.

    The next free place goes to the waiting user with the fewest places; among equals, to the one whose last turn is the
    longest ago. The last free places (`spare`) go only to users who have none, so that busy users never hold all. When
    too many callers wait in total, the newest caller of the user with the most waiting callers is refused, so that many
    requests of one user do not affect others.

    Args:
        name: for metrics and messages, e.g. `exports`.
        places: how many callers may work at the same time.
        per_user: how many places one user may have.
        waiting: how many callers may wait in total.
        waiting_per_user: how many callers of one user may wait.
        spare: number of free places that only users without a place may take.
        retry_after_seconds: how long a refused caller should wait.
    """

    def __init__(
        self,
        name: str,
        places: int,
        per_user: int,
        *,
        waiting: int = 256,
        waiting_per_user: int = 16,
        spare: int = 1,
        retry_after_seconds: int = 10,
    ) -> None:
        self._name = name
        self._places = places
        self._per_user = per_user
        self._most_waiting = waiting
        self._most_waiting_per_user = waiting_per_user
        self._spare = spare
        self._retry_after_seconds = retry_after_seconds
        self._taken: Counter[str] = Counter()
        # Held places, oldest first.
        self._held: list[Place] = []
        # Users in the order of their turns; a queue is never empty.
        self._queues: dict[str, deque[_Waiter]] = {}

    @contextlib.asynccontextmanager
    async def place(
        self,
        user: str,
        *,
        patient: bool = False,
        wait_seconds: float | None = None,
        on_waiting: Callable[[], None] | None = None,
    ) -> AsyncIterator[Place]:
        """Holds a place as long as the context lasts.

        Args:
            user: a user's id, or an address if there is no user.
            patient: the caller is never refused and does not count as waiting; for work that is bounded already, such
                as running jobs.
            wait_seconds: longest time to wait; None: as long as it takes.
            on_waiting: called once if there is no free place.

        Raises:
            LimitExceededError: too many callers wait already, or this one waited too long (reason TOO_MANY_WAITING).
        """
        await self._take(user, patient, wait_seconds, on_waiting)
        place = Place(user, self._recall)
        self._held.append(place)
        try:
            yield place
        finally:
            self._held.remove(place)
            self._give_back(user)

    async def _take(
        self, user: str, patient: bool, wait_seconds: float | None, on_waiting: Callable[[], None] | None
    ) -> None:
        waiter = _Waiter(user, patient, asyncio.get_running_loop().create_future())
        self._queues.setdefault(user, deque()).append(waiter)
        self._admit()
        if waiter.has_place:
            return
        self._refuse_excess(waiter)
        PLACES.labels(self._name, "waiting").inc()
        try:
            if on_waiting and not waiter.answer.done():
                on_waiting()
            self._recall()
            async with asyncio.timeout(wait_seconds):
                has_place = await waiter.answer
        except TimeoutError:
            self._withdraw(waiter)
            raise self._refusal() from None
        except BaseException:
            self._withdraw(waiter)
            raise
        finally:
            PLACES.labels(self._name, "waiting").dec()
        if not has_place:
            raise self._refusal()

    def _give_back(self, user: str) -> None:
        self._taken[user] -= 1
        if not self._taken[user]:
            del self._taken[user]
        PLACES.labels(self._name, "taken").dec()
        self._end_turn(user)
        self._admit()

    def _withdraw(self, waiter: _Waiter) -> None:
        """Removes a caller that went away; if it has just got a place, that goes to the next one."""
        if waiter.has_place:
            self._give_back(waiter.user)
        else:
            self._leave_queue(waiter)

    def _admit(self) -> None:
        while (user := self._next_user()) is not None:
            waiter = self._queues[user][0]
            self._leave_queue(waiter)
            if waiter.answer.cancelled():  # its caller went away, and `_withdraw` has not run yet
                continue
            self._end_turn(user)
            self._taken[user] += 1
            PLACES.labels(self._name, "taken").inc()
            waiter.answer.set_result(True)

    def _recall(self) -> None:
        """Asks for as many places back as there are waiting users without one."""
        newcomers = sum(not self._taken[user] for user in self._queues)
        for _ in range(newcomers - sum(place.is_recalled for place in self._held)):
            # Recalled places count as given back.
            left = Counter(place.user for place in self._held if not place.is_recalled)
            possible = [place for place in self._held if place.can_be_recalled and left[place.user] > 1]
            if not possible:
                return
            most = max(left[place.user] for place in possible)
            next(place for place in reversed(possible) if left[place.user] == most).recall()

    def _end_turn(self, user: str) -> None:
        if queue := self._queues.pop(user, None):
            self._queues[user] = queue

    def _next_user(self) -> str | None:
        free = self._places - self._taken.total()
        if free <= 0:
            return None
        most = self._per_user if free > self._spare else 1
        return min(
            (user for user in self._queues if self._taken[user] < most), key=self._taken.__getitem__, default=None
        )

    def _refuse_excess(self, newcomer: _Waiter) -> None:
        """Refuses one caller, not always the newcomer, if too many wait now."""
        if newcomer.patient:
            return
        waiting = {user: sum(waiter.may_be_refused for waiter in queue) for user, queue in self._queues.items()}
        if waiting[newcomer.user] > self._most_waiting_per_user:
            self._refuse(newcomer)
        elif sum(waiting.values()) > self._most_waiting:
            longest = max(waiting, key=waiting.__getitem__)
            if waiting[longest] <= waiting[newcomer.user]:
                self._refuse(newcomer)
            else:
                self._refuse(next(waiter for waiter in reversed(self._queues[longest]) if waiter.may_be_refused))

    def _refuse(self, waiter: _Waiter) -> None:
        self._leave_queue(waiter)
        waiter.answer.set_result(False)

    def _leave_queue(self, waiter: _Waiter) -> None:
        queue = self._queues.get(waiter.user)
        if queue and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[waiter.user]

    def _refusal(self) -> LimitExceededError:
        REFUSALS.labels(self._name).inc()
        return LimitExceededError(
            f"Too much waits already ({self._name}); come back in {self._retry_after_seconds} s.",
            TOO_MANY_WAITING,
            retry_after_seconds=str(self._retry_after_seconds),
        )
