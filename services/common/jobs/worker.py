"""Takes jobs from the queue and runs their handlers, one attempt after another, with progress and endings."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from services.common.errors import (
    Code,
    DeviceError,
    DeviceNotReadyError,
    NoMemoryError,
    StemTubeError,
    StoppedError,
    full_disk,
)
from services.common.jobs import metrics
from services.common.jobs.active import ActiveJobs
from services.common.jobs.context import JobContext
from services.common.jobs.errors import INTERNAL_ERROR, error_detail, is_outage
from services.common.jobs.leases import LeaseStore
from services.common.jobs.needs import Needs
from services.common.jobs.records import JobRecord
from services.common.jobs.rules import WorkRules
from services.common.jobs.states import State
from services.common.jobs.threads import JobStoreThreads
from services.common.observe import request_context, tracing

POLL_SECONDS = 0.2
REPORT_SECONDS = 0.1
AVOID_SECONDS = 60.0
"""For this long a worker leaves a job that failed on its device to other busy workers."""
END_SECONDS = 5.0
"""What attempts get to stop, beyond the grace of their jobs."""
SERVER_FAULTS = (int(Code.INTERNAL), int(Code.DATA_LOSS))
SERVER_FAULT_REASONS = (DeviceError.reason, NoMemoryError.reason)
"""Codes and reasons of errors that somebody who operates StemTube must look at."""

log = structlog.get_logger(__name__)

Handler = Callable[[JobContext], Awaitable[dict[str, Any]]]
Ending = tuple[State, dict[str, Any] | None, dict[str, Any] | None]
"""State, result and error; "queued" with an error if the job is tried again."""


class Worker:
    """Runs jobs of a queue in this process.

    Args:
        rules: of the queue.
        handlers: by kind of job.
        leases: of the queue.
        threads: run the blocking calls of `leases`.
        active: the jobs of this process.
        needs: what all jobs need.
        on_change: called after a job has changed.
    """

    def __init__(
        self,
        rules: WorkRules,
        handlers: Mapping[str, Handler],
        leases: LeaseStore,
        threads: JobStoreThreads,
        active: ActiveJobs,
        *,
        needs: Needs,
        on_change: Callable[[], None],
    ) -> None:
        self._rules = rules
        self._handlers = handlers
        self._leases = leases
        self._threads = threads
        self._active = active
        self._limit = rules.slots
        self._needs = needs
        self._on_change = on_change
        self._attempts: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._wake = asyncio.Event()
        self._faulted: dict[str, tuple[int, float]] = {}

    def limit(self, jobs: int) -> None:
        """Runs at most this many jobs at the same time from now on."""
        self._limit = jobs
        self._wake.set()

    def wake(self) -> None:
        """Makes the worker look for a job at once, because one may start now."""
        self._wake.set()

    def start(self) -> None:
        """Begins to take jobs."""
        self._taking = asyncio.create_task(self._take_jobs())

    async def stop(self, grace_seconds: float) -> None:
        """Takes no more jobs, waits `grace_seconds` for running ones, and returns the others to the queue."""
        if self._taking:
            self._is_stopping = True
            self._wake.set()
            await self._taking
        await self._active.wait(grace_seconds)
        await self._give_all_back()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=END_SECONDS)

    async def _take_jobs(self) -> None:
        """Claims the next job whenever there is room, until the worker stops."""
        while not self._is_stopping:
            self._wake.clear()
            if await self._take_job():
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()

    async def _take_job(self) -> bool:
        """Starts an attempt at the next job; False if there is none, or no room."""
        if len(self._attempts) >= self._limit or not self._needs.are_met:
            return False
        lease = uuid.uuid4().hex
        try:
            avoided = await self._avoided_jobs()
            record = await self._threads.call(self._leases.claim, lease, self._rules.per_user, avoided)
        except DBAPIError as error:
            log.warning("cannot look for jobs; trying again", error=type(error.orig).__name__)
            return False
        except Exception:
            log.exception("cannot look for jobs; trying again")
            return False
        if record is None:
            return False
        context = JobContext(record, lease, self._leases, self._threads, self._rules.retry, self._needs)
        task = asyncio.create_task(self._run(context, record))
        self._active.add(context, task)
        self._attempts.add(task)
        task.add_done_callback(lambda task: self._end_attempt(context, task))
        return True

    def _end_attempt(self, context: JobContext, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        self._active.remove(context)  # `_attempt` did not if the task was cancelled before it began
        if not task.cancelled() and (error := task.exception()):
            log.error("an attempt ended with an error", job=context.job_id, exc_info=error)
        self._wake.set()

    async def _run(self, context: JobContext, record: JobRecord) -> None:
        parent = request_context.bind_origin(record.origin or {})
        structlog.contextvars.bind_contextvars(job=record.id, user=record.user)
        with tracing.span(
            f"job {record.kind}",
            kind=tracing.SpanKind.CONSUMER,
            parent=parent,
            job=record.id,
            queue=self._rules.service,
            attempt=record.attempts,
        ) as span:
            await self._attempt(context, record, span)

    async def _attempt(self, context: JobContext, record: JobRecord, span: tracing.Span) -> None:
        log.info("job started", kind=record.kind, attempt=record.attempts)
        if record.attempts == 1 and record.started_at:
            metrics.WAIT_SECONDS.labels(self._rules.service, record.kind).observe(record.started_at - record.created_at)
        began = time.perf_counter()
        try:
            state, result, error = await self._handle(context, record.kind)
            await self._write_report(context)
            context.is_ending = True
            if state == "queued" and error:
                await self._put_back(context, error)
                return
            finished = await self._threads.call(
                self._leases.finish, context.job_id, context.lease, state, result, error, context.detail
            )
        except Exception:
            # Another worker takes the job over when the lease has expired.
            log.exception("cannot store the end of a job")
            return
        finally:
            context.stop()
            self._active.remove(context)
            self._on_change()
        if not finished:
            span.set_attribute("state", "lease lost")
            log.info("job lease lost")  # or cancelled
            return
        await self.admit(record.user)
        span.set_attribute("state", state)
        if error:
            tracing.mark_failed(span, error["reason"])
        metrics.WORK_SECONDS.labels(self._rules.service, record.kind).observe(time.perf_counter() - began)
        metrics.ENDS.labels(self._rules.service, record.kind, state, error["reason"] if error else "").inc()
        _log_end(record, state, error)

    async def _handle(self, context: JobContext, kind: str) -> Ending:
        """Runs the handler and returns how the attempt ends."""
        try:
            return "succeeded", await self._handlers[kind](context), None
        except StoppedError:
            raise asyncio.CancelledError from None
        except DeviceError as error:
            return await self._after_device_error(context, error)
        except StemTubeError as error:
            if is_outage(error):
                await self._put_back(context, error_detail(error), counts=False)
                raise asyncio.CancelledError from None
            return await self._after_error(context, error)
        except DBAPIError as error:
            # The outcome of a step could not be stored. The next attempt repeats the work since the last one.
            log.warning("the database is away; job returned to the queue", error=type(error.orig).__name__)
            await self._give_back(context)
            raise asyncio.CancelledError from None
        except Exception as error:
            if full := full_disk(error):
                return await self._after_error(context, full)
            log.exception("unexpected error in a job", kind=kind)
            return "failed", None, INTERNAL_ERROR

    async def _after_error(self, context: JobContext, error: StemTubeError) -> Ending:
        """Ends an attempt after an error; it does not count while the needs of all jobs are not met."""
        if not await self._needs.look():
            await self._put_back(context, error_detail(error), counts=False)
            raise asyncio.CancelledError
        return "failed" if context.is_final(error) else "queued", None, error_detail(error)

    async def _put_back(self, context: JobContext, error: dict[str, Any], *, counts: bool = True) -> None:
        """Queues a job for its next attempt, by any worker; while it waits it occupies no slot.

        Args:
            context: of the attempt that ended.
            error: the reason.
            counts: whether the attempt is one of those that `RetryPolicy` allows.
        """
        seconds = self._rules.retry.delay_seconds(context.retries if counts else 0)
        put_back = partial(self._leases.put_back, context.job_id, context.lease, seconds, error, counts=counts)
        if await self._threads.call(put_back):
            log.warning("job will be tried again", error=error["message"], reason=error["reason"], seconds=seconds)
            await self.admit(context.user)

    async def _after_device_error(self, context: JobContext, error: DeviceError) -> Ending:
        """Returns the job to the queue for another worker, or fails it if too many devices have failed at it."""
        began = not isinstance(error, DeviceNotReadyError)
        if began and context.device_faults + 1 >= self._rules.retry.device_faults:
            return "failed", None, error_detail(error)
        log.warning("job left to another worker", reason=error.reason, error=error.message)
        if began:
            times, _ = self._faulted.get(context.job_id, (0, 0.0))
            self._faulted[context.job_id] = (times + 1, time.monotonic() + AVOID_SECONDS)
        await self._give_back(context, device_fault=began)
        raise asyncio.CancelledError

    async def _avoided_jobs(self) -> list[str]:
        """Ids of jobs at which all devices of this process failed, while other workers are busy.

        If no other worker is busy, an idle one would have taken such a job already: this one may try again.
        """
        now = time.monotonic()
        self._faulted = {faulted: (times, until) for faulted, (times, until) in self._faulted.items() if until > now}
        faulted = [job_id for job_id, (times, _) in self._faulted.items() if times >= self._rules.slots]
        if not faulted:
            return []
        own = [context.job_id for context in self._active]
        are_others_busy: bool = await self._threads.call(self._leases.are_others_busy, own, self._rules.lease_seconds)
        return faulted if are_others_busy else []

    async def admit(self, user: str) -> None:
        """Lets jobs of a user start that there is room for now; the heartbeat finds those that are forgotten here."""
        if self._rules.per_user:
            try:
                await self._threads.call(self._leases.admit, user, self._rules.per_user)
            except DBAPIError as error:
                log.warning("cannot look for jobs that may start", error=type(error.orig).__name__)
            self._wake.set()

    async def _give_back(self, context: JobContext, device_fault: bool = False) -> None:
        give_back = self._leases.release_after_device_fault if device_fault else self._leases.release
        if await self._threads.call(give_back, context.job_id, context.lease):
            log.info("job returned to the queue", job=context.job_id)
        self._active.stop(context.job_id, context.lease)

    async def _give_all_back(self) -> None:
        """Stops all running jobs and returns them to the queue."""
        contexts = list(self._active)
        ids = await self._threads.call(self._leases.release_all, [(job.job_id, job.lease) for job in contexts])
        for context in contexts:
            self._active.stop(context.job_id, context.lease)
        if ids:
            log.info("jobs returned to the queue", count=len(ids))

    async def write_reports(self) -> None:
        """Writes the progress of all jobs ten times a second, until it is cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            for context in self._active:
                if context.has_unwritten_report:
                    await self._write_report(context)

    async def _write_report(self, context: JobContext) -> None:
        async with context.writing:  # else an older report could overwrite a newer one
            report = context.take_report()
            if report is None:
                return
            try:
                await self._threads.call(self._leases.report, context.job_id, context.lease, *report)
                self._on_change()
            except Exception as error:
                log.warning("cannot write progress", error=type(error).__name__)


def _log_end(record: JobRecord, state: State, error: dict[str, Any] | None) -> None:
    if not error:
        log.info("job ended", kind=record.kind, state=state)
        return
    is_server_fault = error["code"] in SERVER_FAULTS or error["reason"] in SERVER_FAULT_REASONS
    tell = log.error if is_server_fault else log.warning
    tell("job failed", kind=record.kind, reason=error["reason"], error=error["message"], attempt=record.attempts)
