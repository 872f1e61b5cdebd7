"""Named locks within this process."""

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """Keeps a lock for each name while a task holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """Returns the lock of a name, for `async with`."""
        return self._locks.setdefault(name, asyncio.Lock())
