"""What every job of a queue needs besides a worker, such as the object store: while it is away, jobs wait for it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

LOOK_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Needs:
    """Looks whether it is there.

    Args:
        ask: tells why no job can be done now; empty if jobs can. It raises nothing.
    """

    def __init__(self, ask: Callable[[], Awaitable[str]] | None = None) -> None:
        self._ask = ask
        self._missing = ""

    @property
    def are_met(self) -> bool:
        """Whether jobs could be done at the last look."""
        return not self._missing

    async def look(self) -> bool:
        """Whether jobs can be done now."""
        missing = await self._ask() if self._ask else ""
        if missing and self.are_met:
            log.warning("no jobs are taken", why=missing)
        elif not missing and not self.are_met:
            log.info("jobs are taken again")
        self._missing = missing
        return self.are_met

    async def run(self) -> None:
        """Looks from time to time, until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)
