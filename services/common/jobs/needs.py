"""Needs of all jobs of a queue, such as the object store: while one is not met, jobs wait."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

LOOK_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Needs:
    """Remembers whether the needs are met.

    Args:
        ask: returns the reason why no job can run now, or an empty string. It must not raise.
    """

    def __init__(self, ask: Callable[[], Awaitable[str]] | None = None) -> None:
        self._ask = ask
        self._missing = ""

    @property
    def are_met(self) -> bool:
        """Whether jobs could run at the last look."""
        return not self._missing

    async def look(self) -> bool:
        """Looks now; returns whether jobs can run."""
        missing = await self._ask() if self._ask else ""
        if missing and self.are_met:
            log.warning("no jobs are taken", why=missing)
        elif not missing and not self.are_met:
            log.info("jobs are taken again")
        self._missing = missing
        return self.are_met

    async def run(self) -> None:
        """Looks every two seconds, until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)
