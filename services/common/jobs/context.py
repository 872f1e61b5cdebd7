"""What a handler knows of its job: the payload, how to report progress, and steps whose outcomes are kept."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from services.common.errors import DeviceError, StemTubeError, StoppedError
from services.common.jobs.errors import KeptError, error_detail
from services.common.jobs.leases import LeaseStore
from services.common.jobs.needs import Needs
from services.common.jobs.records import JobRecord
from services.common.jobs.retry import TRANSIENT, RetryPolicy
from services.common.jobs.threads import JobStoreThreads
from services.common.observe import tracing

Report = tuple[str, float, float | None, dict[str, Any]]
"""Stage, fraction in [0, 1], seconds to the end, further detail."""


class JobContext:
    """One attempt at a job.

    `report` may be called from any thread, as often as needed: the newest report is written ten times a second.

    Args:
        record: the job.
        lease: of this attempt.
        leases: where the attempt's outputs and steps are kept.
        threads: in which these block.
        retry: when the job is tried again.
        needs: what all jobs need; an error counts for nothing while it is away.
    """

    def __init__(
        self,
        record: JobRecord,
        lease: str,
        leases: LeaseStore,
        threads: JobStoreThreads,
        retry: RetryPolicy,
        needs: Needs,
    ) -> None:
        self._leases = leases
        self._threads = threads
        self._retry = retry
        self._needs = needs
        self.job_id = record.id
        self.key = record.key
        self.user = record.user
        self.payload = record.payload
        self.attempt = record.attempts
        self.device_faults = record.device_faults
        self.retries = record.retries
        self.detail: dict[str, Any] = record.detail
        self.lease = lease
        self.writing = asyncio.Lock()
        self.is_ending = False
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._unwritten: Report | None = None
        self._stage = ""
        self._stage_began = (time.monotonic(), 0.0)

    def report(self, stage: str, fraction: float, eta_seconds: float | None = None, **detail: Any) -> None:
        """Tells how far the job is.

        Args:
            stage: a stable name.
            fraction: of the whole job, in [0, 1].
            eta_seconds: to the end; measured from the progress of this stage if not given.
            detail: what else watchers may want to know, JSON; replaces earlier values of the same names.

        Raises:
            StoppedError: the job was cancelled or is now another worker's.
        """
        if self._stopped.is_set():
            raise StoppedError("The job was stopped.")
        with self._lock:
            now = time.monotonic()
            if stage != self._stage:
                self._stage, self._stage_began = stage, (now, fraction)
            began, first = self._stage_began
            if eta_seconds is None and fraction > first and now > began:
                eta_seconds = (now - began) * (1 - fraction) / (fraction - first)
            self.detail = {**self.detail, **detail}
            self._unwritten = (stage, fraction, eta_seconds, self.detail)

    def save_output(self, name: str, content: Any) -> None:
        """Keeps a part of the result (JSON) that is ready before the job ends. Blocks; for worker threads."""
        self._leases.save_output(self.job_id, self.lease, name, content)

    async def keep_output(self, name: str, content: Any) -> None:
        """As `save_output`, beside the event loop."""
        await self._threads.call(self._leases.save_output, self.job_id, self.lease, name, content)

    async def outputs(self) -> dict[str, Any]:
        """What this and earlier attempts have kept of the result, by name."""
        return await self._threads.call(self._leases.outputs, self.job_id)

    def is_final(self, error: StemTubeError) -> bool:
        """Whether the job ends with this error rather than being tried again."""
        return self._retry.is_final(error, self.retries)

    @property
    def has_unwritten_report(self) -> bool:
        """Whether a report has not been written yet."""
        return self._unwritten is not None

    def take_report(self) -> Report | None:
        """The newest report not yet written, which the caller writes."""
        with self._lock:
            report, self._unwritten = self._unwritten, None
            return report

    def stop(self) -> None:
        """From now on `report` raises."""
        self._stopped.set()

    async def step(self, name: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Runs a step of the job, once: a later attempt gets its outcome (JSON, or a domain error) as it was.

        An error is not kept if it is transient, or if what all jobs need is away: the next attempt runs the step again.

        Args:
            name: of the step; no other step of the job has it.
            work: what to do.

        Raises:
            CancelledError: the job was stopped.
        """
        outcome = await self._threads.call(self._leases.kept_step, self.job_id, name)
        if outcome is None:
            outcome = await self._outcome(name, work)
            await self._threads.call(self._leases.keep_step, self.job_id, self.lease, name, outcome)
        if "error" in outcome:
            raise KeptError(outcome["error"])
        result: dict[str, Any] = outcome["result"]
        return result

    async def _outcome(self, name: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """What a step leads to, as it is kept; errors that are not kept are raised."""
        try:
            with tracing.span(f"step {name}"):
                return {"result": await work()}
        except StoppedError:
            raise asyncio.CancelledError from None
        except StemTubeError as error:
            if error.code in TRANSIENT or isinstance(error, DeviceError) or not await self._needs.look():
                raise
            return {"error": error_detail(error)}
