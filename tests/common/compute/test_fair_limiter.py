"""Each user has few places, users take turns, the queue is bounded, and no place is lost when a caller goes away."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.common.compute.fair_limiter import FairLimiter
from services.common.errors import Code, LimitExceededError


class Work:
    """Callers of a limiter; each holds its place until it is told to end."""

    def __init__(self, limiter: FairLimiter) -> None:
        self.limiter = limiter
        self.running: list[str] = []
        self.begun: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def start(self, *names: str, **options: Any) -> None:
        """Starts callers; the letters of a name are its user."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._hold(name, options))
            await settle()

    async def _hold(self, name: str, options: Any) -> None:
        async with self.limiter.place(name.rstrip("0123456789"), **options):
            self.running.append(name)
            self.begun.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await self._tasks[name]
            await settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await asyncio.gather(*(self._tasks[name] for name in names), return_exceptions=True)
        await settle()

    def refused(self, name: str) -> bool:
        task = self._tasks[name]
        return task.done() and isinstance(task.exception(), LimitExceededError)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_user_has_few_places_and_another_user_starts_at_once() -> None:
    work = Work(FairLimiter("test", 4, 2))
    await work.start("a1", "a2", "a3", "a4")
    assert work.running == ["a1", "a2"]
    await work.start("b1")
    assert work.running == ["a1", "a2", "b1"]
    await work.end("a1")
    assert work.running == ["a2", "b1", "a3"]


async def test_the_last_free_place_is_for_a_user_without_one() -> None:
    work = Work(FairLimiter("test", 3, 3))
    await work.start("a1", "a2", "a3")
    assert work.running == ["a1", "a2"]
    await work.start("b1")
    assert work.running == ["a1", "a2", "b1"]
    await work.end("a1", "a2")
    assert work.running == ["b1", "a3"]


async def test_without_spare_places_one_user_may_take_all() -> None:
    work = Work(FairLimiter("test", 2, 2, spare=0))
    await work.start("a1", "a2", "a3", "b1")
    assert work.running == ["a1", "a2"]
    await work.end("a1")
    assert work.running == ["a2", "b1"]


async def test_one_place_serves_everybody_in_turn() -> None:
    work = Work(FairLimiter("test", 1, 1))
    await work.start("a1", "a2", "a3", "b1", "b2", "c1")
    for name in ("a1", "b1", "c1", "a2", "b2", "a3"):
        assert work.running == [name]
        await work.end(name)


async def test_a_user_with_many_requests_does_not_overtake_others() -> None:
    work = Work(FairLimiter("test", 1, 1))
    await work.start("a1", "b1", "c1")
    await work.end("a1")
    await work.start("a2")
    await work.end("b1")
    assert work.running == ["c1"]
    await work.end("c1")
    assert work.running == ["a2"]


async def test_a_user_beyond_the_waiting_limit_is_refused_and_others_are_not() -> None:
    work = Work(FairLimiter("test", 2, 1, waiting_per_user=2, retry_after_seconds=7))
    await work.start("a1", "a2", "a3", "a4", "b1", "b2")
    assert work.refused("a4")
    assert work.running == ["a1", "b1"]
    with pytest.raises(LimitExceededError) as refused:
        async with work.limiter.place("a"):
            pass
    assert (refused.value.code, refused.value.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_WAITING")
    assert refused.value.metadata == {"retry_after_seconds": "7"}
    await work.end("a1", "a2", "a3", "b1", "b2")


async def test_when_the_queue_is_full_the_user_with_the_most_waiting_is_refused() -> None:
    work = Work(FairLimiter("test", 1, 1, waiting=4, waiting_per_user=4))
    await work.start("a1", "a2", "a3", "a4", "a5", "b1")
    assert work.refused("a5")
    await work.start("b2")
    assert work.refused("a4")
    await work.start("b3")
    assert work.refused("b3")
    for name in ("a1", "b1", "a2", "b2", "a3"):
        assert work.running == [name]
        await work.end(name)


async def test_patient_callers_are_never_refused_and_do_not_count_as_waiting() -> None:
    work = Work(FairLimiter("test", 1, 1, waiting=1, waiting_per_user=1))
    await work.start("a1")
    await work.start(*(f"a{number}" for number in range(2, 9)), patient=True)
    await work.start("b1", "b2")
    assert work.refused("b2")
    for name in ("a1", "b1", *(f"a{number}" for number in range(2, 9))):
        assert work.running == [name]
        await work.end(name)


async def test_a_caller_that_waits_too_long_gets_a_retry_time() -> None:
    limiter = FairLimiter("test", 1, 1)
    async with limiter.place("a"):
        with pytest.raises(LimitExceededError) as refused:
            async with limiter.place("b", wait_seconds=0.01):
                pass
    assert refused.value.reason == "TOO_MANY_WAITING"
    async with limiter.place("b"):
        pass


async def test_a_caller_learns_that_it_has_to_wait() -> None:
    told: list[str] = []
    work = Work(FairLimiter("test", 1, 1))
    await work.start("a1", on_waiting=lambda: told.append("a1"))
    await work.start("b1", on_waiting=lambda: told.append("b1"))
    assert told == ["b1"]
    await work.end("a1", "b1")
    assert told == ["b1"]


async def test_an_exception_while_waiting_gives_the_turn_away() -> None:
    def stop() -> None:
        raise RuntimeError("stopped")

    work = Work(FairLimiter("test", 1, 1))
    await work.start("a1")
    with pytest.raises(RuntimeError, match="stopped"):
        async with work.limiter.place("b", on_waiting=stop):
            pass
    await work.start("c1")
    await work.end("a1")
    assert work.running == ["c1"]


async def test_callers_that_go_away_free_their_places_and_turns() -> None:
    work = Work(FairLimiter("test", 1, 1))
    await work.start("a1", "b1", "c1")
    await work.cancel("b1")
    await work.cancel("a1")
    assert work.running == ["c1"]


async def test_a_place_given_to_a_leaving_caller_is_not_lost() -> None:
    work = Work(FairLimiter("test", 1, 1))
    await work.start("a1", "b1", "c1")
    work._ends["a1"].set()
    await asyncio.sleep(0)  # a1 continues and gives its place to b1, which has not continued yet
    await work.cancel("b1")
    assert "b1" not in work.begun
    assert work.running == ["c1"]


async def test_no_place_is_lost_when_callers_leave_at_any_time() -> None:
    limiter = FairLimiter("random", 4, 2, waiting=30, waiting_per_user=8)
    chance = random.Random(1)
    running: Counter[str] = Counter()

    async def hold(user: str) -> None:
        async with limiter.place(user, patient=chance.random() < 0.1):
            running[user] += 1
            assert running.total() <= 4
            assert running[user] <= 2
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                running[user] -= 1

    tasks = []
    for _ in range(3000):
        tasks.append(asyncio.create_task(hold(chance.choice("abcdefgh"))))
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks[-20:]).cancel()
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = Counter(type(end).__name__ for end in ends)
    assert set(kinds) == {"NoneType", "CancelledError", "LimitExceededError"}
    assert value("random", "taken") == value("random", "waiting") == 0
    async with asyncio.timeout(10), limiter.place("a"), limiter.place("b"), limiter.place("c"), limiter.place("d"):
        pass


def value(limiter: str, state: str) -> float | None:
    return REGISTRY.get_sample_value("stemtube_places", {"limiter": limiter, "state": state})


async def test_metrics_count_running_waiting_and_refused_work() -> None:
    work = Work(FairLimiter("seen", 1, 1, waiting_per_user=2))
    await work.start("a1", "a2", "a3", "a4")
    assert (value("seen", "taken"), value("seen", "waiting")) == (1, 2)
    assert REGISTRY.get_sample_value("stemtube_places_refused_total", {"limiter": "seen"}) == 1
    await work.end("a1", "a2", "a3")
    assert (value("seen", "taken"), value("seen", "waiting")) == (0, 0)


class Recalled(Work):
    """Callers whose places can be recalled; they end at once then."""

    async def _hold(self, name: str, options: Any) -> None:
        async with self.limiter.place(name.rstrip("0123456789"), **options) as place:
            self.running.append(name)
            try:
                with place.recallable(self._ends[name].set):
                    await self._ends[name].wait()
            finally:
                self.running.remove(name)


async def test_users_without_a_place_get_those_of_users_with_the_most() -> None:
    work = Recalled(FairLimiter("test", 6, 4))
    await work.start("a1", "a2", "a3", "a4", "b1", "c1")
    assert work.running == ["a1", "a2", "a3", "a4", "b1", "c1"]
    await work.start("d1")
    assert work.running == ["a1", "a2", "a3", "b1", "c1", "d1"]
    await work.start("e1", "f1")
    assert work.running == ["a1", "b1", "c1", "d1", "e1", "f1"]
    await work.start("g1")
    assert work.running == ["a1", "b1", "c1", "d1", "e1", "f1"]
    await work.end("b1")
    assert work.running == ["a1", "c1", "d1", "e1", "f1", "g1"]


async def test_a_user_with_a_place_gets_no_place_of_another() -> None:
    work = Recalled(FairLimiter("test", 4, 3, spare=0))
    await work.start("a1", "a2", "a3", "b1", "b2")
    assert work.running == ["a1", "a2", "a3", "b1"]


async def test_one_place_is_recalled_for_each_user_that_waits_for_one() -> None:
    work = Work(FairLimiter("test", 4, 4, spare=0))
    recalled: list[int] = []

    async def hold(number: int) -> None:
        async with work.limiter.place("a") as place:
            with place.recallable(lambda: recalled.append(number)):
                await asyncio.Event().wait()

    tasks = [asyncio.create_task(hold(number)) for number in range(4)]
    await settle()
    await work.start("b1", "b2")
    assert recalled == [3]
    await work.start("c1", "d1", "e1")
    assert recalled == [3, 2, 1]
    for task in tasks[1:]:
        task.cancel()
    await settle()
    assert work.running == ["b1", "c1", "d1"]
    await work.cancel("b2", "e1")
    tasks[0].cancel()


async def test_a_place_that_becomes_recallable_later_is_recalled_then() -> None:
    work = Work(FairLimiter("test", 2, 2, spare=0))
    recalled: list[str] = []
    async with work.limiter.place("a"), work.limiter.place("a") as place:
        await work.start("b1")
        with place.recallable(lambda: recalled.append("a")):
            assert recalled == ["a"]
    await settle()
    await work.end("b1")
