"""Locks by name within this process."""

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """A lock for each name, kept as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """The lock of a name, for `async with`."""
        return self._locks.setdefault(name, asyncio.Lock())
