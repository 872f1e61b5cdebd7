"""Several children: users do not wait for each other's tasks, and a child that dies ends only one task."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from services.common.compute.engine import Engine, WorkerDiedError
from services.common.compute.engine_pool import EnginePool
from services.common.compute.fair_limiter import FairLimiter
from services.common.config import LogSettings
from services.common.errors import LimitExceededError
from tests.common.compute.engine_work import Work

PLACES = 3


def make_pool(idle_seconds: float = 60.0) -> EnginePool:
    limiter = FairLimiter("test", PLACES, 2, waiting_per_user=2)
    return EnginePool(lambda: Engine("test-pool", Work, "plain", LogSettings(), idle_seconds), limiter)


@pytest.fixture
async def pool() -> AsyncIterator[EnginePool]:
    pool = make_pool()
    yield pool
    await pool.close()


class Task:
    """A running task of a user."""

    def __init__(self, pool: EnginePool, user: str, do: str) -> None:
        self.began = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.result = asyncio.create_task(self._run(pool, user, do))

    async def _run(self, pool: EnginePool, user: str, do: str) -> dict[str, Any]:
        async with pool.engine(user) as engine:
            return await engine.run({"do": do}, self._tell)

    def _tell(self, *_arguments: Any, **_detail: Any) -> None:
        self._loop.call_soon_threadsafe(self.began.set)

    async def cancel(self) -> None:
        self.result.cancel()
        await asyncio.wait({self.result})


def children() -> list[int]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if any("spawn_main" in part for part in child.cmdline()):
                found.append(child.pid)
    return found


async def test_another_users_task_runs_while_the_first_ones_are_blocked(pool: EnginePool) -> None:
    held = [Task(pool, "anna", "long") for _ in range(4)]
    async with asyncio.timeout(60):
        await asyncio.gather(held[0].began.wait(), held[1].began.wait())
        assert (await Task(pool, "ben", "count").result)["tasks"] == 1
    assert not any(task.result.done() for task in held)
    assert not held[2].began.is_set()
    assert len(children()) == PLACES
    for task in held:
        await task.cancel()


async def test_children_start_when_they_are_needed_and_stay_warm(pool: EnginePool) -> None:
    assert not children()
    first = await Task(pool, "anna", "count").result
    second = await Task(pool, "ben", "count").result
    assert (second["pid"], second["tasks"]) == (first["pid"], 2)
    assert len(children()) == 1


async def test_idle_children_end() -> None:
    pool = make_pool(idle_seconds=0.2)
    await asyncio.gather(*(Task(pool, user, "count").result for user in ("anna", "ben")))
    async with asyncio.timeout(30):
        while children():
            await asyncio.sleep(0.05)
    assert (await Task(pool, "anna", "count").result)["tasks"] == 1
    await pool.close()


async def test_a_killed_child_ends_only_one_task(pool: EnginePool) -> None:
    warm = [await Task(pool, "anna", "count").result]
    tasks = [Task(pool, user, "long") for user in ("anna", "ben")]
    async with asyncio.timeout(60):
        await asyncio.gather(*(task.began.wait() for task in tasks))
        os.kill(warm[0]["pid"], signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            await tasks[0].result
        assert not tasks[1].result.done()
        assert (await Task(pool, "anna", "count").result)["tasks"] == 1
    await tasks[1].cancel()


async def test_a_caller_that_goes_away_frees_its_child(pool: EnginePool) -> None:
    held = [Task(pool, "anna", "deaf") for _ in range(2)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(task.began.wait() for task in held))
        waiting = Task(pool, "anna", "count")
        await held[0].cancel()
        assert (await waiting.result)["tasks"] == 1
    await held[1].cancel()


async def test_tasks_beyond_the_waiting_limit_are_refused(pool: EnginePool) -> None:
    held = [Task(pool, "anna", "long") for _ in range(4)]
    async with asyncio.timeout(60):
        await asyncio.gather(held[0].began.wait(), held[1].began.wait())
        with pytest.raises(LimitExceededError) as refused:
            await Task(pool, "anna", "count").result
    assert refused.value.reason == "TOO_MANY_WAITING"
    for task in held:
        await task.cancel()
