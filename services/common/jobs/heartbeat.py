"""Keeps the leases of this process's jobs, and returns jobs of silent workers to the queue."""

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
from services.common.jobs.rules import WorkRules
from services.common.jobs.threads import JobStoreThreads
from services.common.unchanged import Unchanged

BEAT_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Renews the leases of this worker every second.

    Args:
        rules: of the queue.
        leases: of the queue.
        threads: run the blocking calls of `leases`.
        active: the jobs of this process.
    """

    def __init__(self, rules: WorkRules, leases: LeaseStore, threads: JobStoreThreads, active: ActiveJobs) -> None:
        self._rules = rules
        self._leases = leases
        self._threads = threads
        self._active = active
        self._beats: Unchanged[tuple[str, str], float] = Unchanged()
        # Silent leases, since this worker could write.
        self._silent: Unchanged[tuple[str, str], float] = Unchanged()
        self._awake_since = self._beaten = self._looked = 0.0

    async def run(self) -> None:
        """Runs until it is cancelled."""
        self._awake_since = self._beaten = self._looked = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._note_standstill()
            self._beaten = time.monotonic()
            try:
                await self._beat()
            except DBAPIError as error:
                self._awake_since = time.monotonic()
                log.warning("cannot renew leases; trying again", error=type(error.orig).__name__)
            except Exception:
                self._awake_since = time.monotonic()
                log.exception("cannot renew leases; trying again")

    async def _beat(self) -> None:
        await self._keep_leases()
        self._note_standstill()  # keeping the leases may have waited for a lock, as other workers did
        if time.monotonic() - self._awake_since > self._rules.lease_seconds:
            await self._take_over_silent()
            if self._rules.per_user and time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
                self._looked = time.monotonic()
                await self._threads.call(self._leases.admit_all, self._rules.per_user)
        metrics.BEAT.labels(self._rules.service).set_to_current_time()

    def _note_standstill(self) -> None:
        """After a standstill other workers, too, need time to show that they live."""
        if time.monotonic() - self._beaten > self._rules.lease_seconds / 2:
            self._awake_since = time.monotonic()

    async def _keep_leases(self) -> None:
        """Renews leases; stops jobs that were cancelled or that another worker has taken over."""
        contexts = {(context.job_id, context.lease): context for context in self._active}
        held = await self._threads.call_beat(self._leases.beat, list(contexts)) if contexts else set()
        for key, context in contexts.items():
            # An attempt that is ending may have ended already; if it lost its lease, it notices when it ends.
            if key not in held and not context.is_ending and self._active.stop(*key):
                log.warning("job lease lost", job=context.job_id)

    async def _take_over_silent(self) -> None:
        """Takes leases that were not renewed, although their workers could write for half as long as a lease lasts.

        An idle worker writes nothing, so it would not notice a lock of the database that keeps others from renewing.
        """
        silent = self._beats.since(await self._threads.call(self._leases.beats), self._rules.lease_seconds)
        if silent:
            began = time.monotonic()
            await self._threads.call(self._leases.expect_writable)
            if time.monotonic() - began > BEAT_SECONDS:
                self._silent = Unchanged()
        silent = self._silent.since(silent, self._rules.lease_seconds / 2)
        if not silent:
            return
        most = self._rules.retry.worker_deaths
        error = worker_died(most)
        for record in await self._threads.call(self._leases.take_silent, silent, most, error):
            metrics.TAKEN_OVER.labels(self._rules.service).inc()
            if record.state == "queued":
                log.warning("job taken over from a silent worker", job=record.id, attempts=record.attempts)
            else:
                self._note_end(record, error)

    def _note_end(self, record: JobRecord, error: dict[str, Any]) -> None:
        metrics.ENDS.labels(self._rules.service, record.kind, "failed", error["reason"]).inc()
        log.error(
            "job failed",
            job=record.id,
            kind=record.kind,
            reason=error["reason"],
            error=error["message"],
            attempt=record.attempts,
        )
