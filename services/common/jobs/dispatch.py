"""Has the engine hand out jobs that may start."""

from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from services.common.jobs import waiting
from services.common.jobs.dbos_engine import DbosEngine
from services.common.jobs.leases import LeaseStore
from services.common.jobs.threads import JobStoreThreads
from services.common.unchanged import Unchanged

log = structlog.get_logger(__name__)


class Dispatcher:
    """Resumes queued jobs, and jobs that were held back because their user had enough running.

    Args:
        leases: of the queue.
        engine: hands jobs out.
        threads: in which both block.
        per_user: jobs of a user that run at a time; 0: any number.
    """

    def __init__(self, leases: LeaseStore, engine: DbosEngine, threads: JobStoreThreads, per_user: int) -> None:
        self._leases = leases
        self._engine = engine
        self._threads = threads
        self._per_user = per_user
        self._forgotten: Unchanged[str, waiting.Claim] = Unchanged()

    async def resume(self, ids: Sequence[str]) -> None:
        """Has the engine hand out these jobs, which are queued."""
        if ids:
            await self._threads.call(self._engine.resume, ids)

    async def admit(self, user: str) -> None:
        """Starts jobs of a user that there is room for now; the heartbeat finds those that are forgotten here."""
        if self._per_user:
            try:
                await self.resume(await self._threads.call(self._leases.admit, user, self._per_user))
            except DBAPIError as error:
                log.warning("cannot look for jobs that may start", error=type(error.orig).__name__)

    async def resume_due(self) -> None:
        """Starts jobs whose next attempt is due."""
        await self.resume(await self._threads.call(self._leases.take_due))

    async def resume_forgotten(self, seconds: float) -> None:
        """Starts jobs that wait although nobody is about to begin them: the process that should have done so died.

        Args:
            seconds: for how long nothing has happened to them.
        """
        present = await self._threads.call(self._leases.forgotten, self._engine.claimed())
        forgotten = self._forgotten.since(present, seconds)
        taken = await self._threads.call(self._leases.take_forgotten, forgotten) if forgotten else []
        if taken:
            log.warning("jobs resumed", count=len(taken))
        await self.resume(taken)
        if self._per_user:
            await self.resume(await self._threads.call(self._leases.admit_all, self._per_user))
