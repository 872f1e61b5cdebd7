"""Named locks are removed after use, also after an error."""

import asyncio
import contextlib

from services.download.locks import Locks


async def test_each_name_has_one_lock_that_is_removed_after_use() -> None:
    locks = Locks()
    inside: list[str] = []

    async def work(name: str) -> None:
        async with locks.of(name):
            assert name not in inside
            inside.append(name)
            await asyncio.sleep(0.01)
            inside.remove(name)
            raise ValueError("failed")

    async def attempt(name: str) -> None:
        with contextlib.suppress(ValueError):
            await work(name)

    await asyncio.gather(*(attempt(name) for name in "aabbab"))
    assert not locks._locks
