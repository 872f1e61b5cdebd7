"""Keeps the leases of this process's jobs, and takes over those of workers that have fallen silent."""

import asyncio
import time
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from services.common.jobs import metrics
from services.common.jobs.active import ActiveJobs
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
        threads: in which they block.
        active: the jobs of this process.
        per_user: jobs of a user that run at a time; 0: any number.
        lease_seconds: a worker silent for so long loses its jobs.
        retry: how many deaths of its workers a job survives.
    """

    def __init__(
        self,
        service: str,
        leases: LeaseStore,
        threads: JobStoreThreads,
        active: ActiveJobs,
        *,
        per_user: int,
        lease_seconds: float,
        retry: RetryPolicy,
    ) -> None:
        self._service = service
        self._leases = leases
        self._threads = threads
        self._active = active
        self._per_user = per_user
        self._lease_seconds = lease_seconds
        self._retry = retry
        self._beats: Unchanged[tuple[str, str], float] = Unchanged()
        self._awake_since = self._beaten = self._looked = 0.0

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        self._awake_since = self._beaten = self._looked = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._note_standstill()
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
        self._note_standstill()  # that waited for a lock, perhaps, as other workers did
        if time.monotonic() - self._awake_since > self._lease_seconds:
            await self._take_over_silent()
            if self._per_user and time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
                self._looked = time.monotonic()
                await self._threads.call(self._leases.admit_all, self._per_user)
        metrics.BEAT.labels(self._service).set_to_current_time()

    def _note_standstill(self) -> None:
        """After a standstill other workers, too, need time to show that they live."""
        if time.monotonic() - self._beaten > self._lease_seconds / 2:
            self._awake_since = time.monotonic()

    async def _keep_leases(self) -> None:
        """Stops jobs that were cancelled, and those that another worker has taken over."""
        contexts = {(context.job_id, context.lease): context for context in self._active}
        held = await self._threads.call_beat(self._leases.beat, list(contexts)) if contexts else set()
        for key, context in contexts.items():
            # An attempt that is about to end has ended perhaps, and otherwise finds out by itself.
            if key not in held and not context.is_ending and self._active.stop(*key):
                log.warning("job lease lost", job=context.job_id)

    async def _take_over_silent(self) -> None:
        silent = self._beats.since(await self._threads.call(self._leases.beats), self._lease_seconds)
        if not silent:
            return
        error = worker_died(self._retry.deaths)
        for record in await self._threads.call(self._leases.take_silent, silent, self._retry.deaths, error):
            metrics.TAKEN_OVER.labels(self._service).inc()
            if record.state == "queued":
                log.warning("job taken over from a silent worker", job=record.id, attempts=record.attempts)
            else:
                self._note_end(record, error)

    def _note_end(self, record: JobRecord, error: dict[str, Any]) -> None:
        metrics.ENDS.labels(self._service, record.kind, "failed", error["reason"]).inc()
        log.error(
            "job failed",
            job=record.id,
            kind=record.kind,
            reason=error["reason"],
            error=error["message"],
            attempt=record.attempts,
        )
