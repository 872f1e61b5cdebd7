"""A handler's view of its job: the payload, progress reports, and steps with kept outcomes."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from services.common.errors import DeviceError, StemTubeError, StoppedError
from services.common.jobs.errors import KeptError, error_detail, is_outage
from services.common.jobs.leases import LeaseStore
from services.common.jobs.needs import Needs
from services.common.jobs.records import JobRecord
from services.common.jobs.retry import TRANSIENT, RetryPolicy
from services.common.jobs.threads import JobStoreThreads
from services.common.observe import tracing

Report = tuple[str, float, float | None, dict[str, Any]]
"""Stage, fraction in [0, 1], seconds left, further detail."""


class JobContext:
    """One attempt at a job.

    `report` may be called from any thread, as often as needed: the newest report is written ten times a second.

    Args:
        record: the job.
        lease: of this attempt.
        leases: stores the attempt's outputs and steps.
        threads: run the blocking calls of `leases`.
        retry: when the job is tried again.
        needs: of all jobs; while they are not met, no error is kept.
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
        """Reports progress.

        Args:
            stage: a stable name.
            fraction: of the whole job, in [0, 1].
            eta_seconds: time left; estimated from the progress of this stage if not given.
            detail: further JSON values for watchers; they replace earlier ones of the same names.

        Raises:
            StoppedError: the job was cancelled, or another worker has taken it over.
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
        """Stores a part of the result (JSON) before the job ends. Blocks: call it in a thread."""
        self._leases.save_output(self.job_id, self.lease, name, content)

    async def keep_output(self, name: str, content: Any) -> None:
        """As `save_output`, beside the event loop."""
        await self._threads.call(self._leases.save_output, self.job_id, self.lease, name, content)

    async def outputs(self) -> dict[str, Any]:
        """The parts of the result that this and earlier attempts have stored, by name."""
        return await self._threads.call(self._leases.outputs, self.job_id)

    def is_final(self, error: StemTubeError) -> bool:
        """Whether the job ends with this error, instead of being tried again."""
        return not is_outage(error) and self._retry.is_final(error, self.retries)

    @property
    def has_unwritten_report(self) -> bool:
        """Whether there is a report that has not been written."""
        return self._unwritten is not None

    def take_report(self) -> Report | None:
        """Removes and returns the newest unwritten report; the caller writes it."""
        with self._lock:
            report, self._unwritten = self._unwritten, None
            return report

    def stop(self) -> None:
        """Makes `report` raise from now on."""
        self._stopped.set()

    async def step(self, name: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Runs a step of the job once. Its outcome (JSON, or a domain error) is kept for later attempts.

        The outcome is not kept if the error is transient or the needs of all jobs are not met: the next attempt then
        runs the step again.

        Args:
            name: unique among the steps of the job.
            work: the step.

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
        """Runs a step and returns its outcome as it is kept; errors that are not kept are raised."""
        try:
            with tracing.span(f"step {name}"):
                return {"result": await work()}
        except StoppedError:
            raise asyncio.CancelledError from None
        except StemTubeError as error:
            if error.code in TRANSIENT or isinstance(error, DeviceError) or not await self._needs.look():
                raise
            return {"error": error_detail(error)}
