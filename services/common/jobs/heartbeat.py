"""Keeps the leases of this process's jobs, and takes over those of workers that have fallen silent."""

import asyncio
import time

import structlog
from sqlalchemy.exc import DBAPIError

from services.common.jobs import metrics
from services.common.jobs.active import ActiveJobs
from services.common.jobs.dbos_engine import DbosEngine
from services.common.jobs.dispatch import Dispatcher
from services.common.jobs.errors import worker_died
from services.common.jobs.leases import LeaseStore
from services.common.jobs.records import JobRecord
from services.common.jobs.retry import RetryPolicy
from services.common.jobs.threads import JobStoreThreads
from services.common.unchanged import Unchanged

BEAT_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Shows every second that this worker lives.

    Args:
        service: whose jobs they are.
        leases: of the queue.
        engine: hands jobs out.
        dispatcher: likewise.
        threads: in which all of these block.
        active: the jobs of this process.
        lease_seconds: a worker silent for so long loses its jobs.
        retry: how many deaths of its workers a job survives.
    """

    def __init__(
        self,
        service: str,
        leases: LeaseStore,
        engine: DbosEngine,
        dispatcher: Dispatcher,
        threads: JobStoreThreads,
        active: ActiveJobs,
        lease_seconds: float,
        retry: RetryPolicy,
    ) -> None:
        self._service = service
        self._leases = leases
        self._engine = engine
        self._dispatcher = dispatcher
        self._threads = threads
        self._active = active
        self._lease_seconds = lease_seconds
        self._retry = retry
        self._beats: Unchanged[tuple[str, str], float] = Unchanged()
        self._awake_since = self._beaten = self._looked = 0.0

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        self._awake_since = self._beaten = self._looked = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if time.monotonic() - self._beaten > self._lease_seconds / 2:
                # After a standstill other workers, too, need time to show that they live.
                self._awake_since = time.monotonic()
            self._beaten = time.monotonic()
            try:
                await self._beat()
            except DBAPIError as error:
                self._awake_since = time.monotonic()
                log.warning("cannot keep the leases; trying again", error=type(error.orig).__name__)
            except Exception:
                self._awake_since = time.monotonic()
                log.exception("cannot keep the leases; trying again")

    async def _beat(self) -> None:
        await self._keep_leases()
        await self._dispatcher.resume_due()
        if time.monotonic() - self._awake_since > self._lease_seconds:
            await self._take_over_silent()
            if time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
                self._looked = time.monotonic()
                await self._dispatcher.resume_forgotten(self._lease_seconds)
        metrics.BEAT.labels(self._service).set_to_current_time()

    async def _keep_leases(self) -> None:
        """Stops jobs that were cancelled, and those that another worker has taken over."""
        leases = [(context.job_id, context.lease) for context in self._active]
        held = await self._threads.call_beat(self._leases.beat, leases) if leases else set()
        for job_id, lease in leases:
            if (job_id, lease) not in held and self._active.stop(job_id, lease):
                log.warning("job lease lost", job=job_id)

    async def _take_over_silent(self) -> None:
        silent = self._beats.since(await self._threads.call(self._leases.beats), self._lease_seconds)
        for record in await self._threads.call(self._leases.take_silent, silent) if silent else ():
            await self._take_over(record)

    async def _take_over(self, record: JobRecord) -> None:
        metrics.TAKEN_OVER.labels(self._service).inc()
        if record.deaths < self._retry.deaths:
            log.warning("job taken over from a silent worker", job=record.id, attempts=record.attempts)
            await self._dispatcher.resume([record.id])
            return
        error = worker_died(self._retry.deaths)
        if await self._threads.call(self._leases.give_up, record.id, error):
            await self._threads.call(self._engine.cancel, record.id)
            metrics.ENDS.labels(self._service, record.kind, "failed", error["reason"]).inc()
            log.error(
                "job failed",
                job=record.id,
                kind=record.kind,
                reason=error["reason"],
                error=error["message"],
                attempt=record.attempts,
            )
