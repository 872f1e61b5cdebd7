"""Durable jobs: a service submits, watches and cancels them with a `JobQueue`, and its workers run them.

A job is one row of a table. The worker that claims it runs its handler under a lease (`leases.py`). A worker that falls
silent loses the lease: the job returns to the queue, and later writes of that worker change nothing. When another
worker takes the job over, steps that were finished are not run again.
"""

import asyncio
import contextlib
import hashlib
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import structlog

from services.common.errors import NotFoundError
from services.common.jobs import metrics
from services.common.jobs.active import ActiveJobs
from services.common.jobs.changes import ChangeFeed
from services.common.jobs.database import JobDatabase
from services.common.jobs.heartbeat import LOOK_AGAIN_SECONDS, Heartbeat
from services.common.jobs.leases import LeaseStore
from services.common.jobs.maintenance import Maintenance, OldJobs
from services.common.jobs.needs import Needs
from services.common.jobs.records import INTERACTIVE, Backlog, JobRecord
from services.common.jobs.requests import RequestStore
from services.common.jobs.retry import RetryPolicy
from services.common.jobs.rules import WorkRules
from services.common.jobs.states import State
from services.common.jobs.store import JobStore, Submission
from services.common.jobs.threads import JobStoreThreads
from services.common.jobs.worker import Handler, Worker
from services.common.observe import request_context
from services.common.storage.database import migrate, outages
from services.common.storage.sqlite_files import sqlite_file

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


def job_key(*parts: Any) -> str:
    """A key that is equal for equal work: a hash over parts that JSON can tell apart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class JobQueue:
    """One service's jobs.

    Args:
        database_url: the service's own database, SQLite or PostgreSQL.
        service: name of the service.
        handlers: one for each kind of job; only a process that runs jobs needs them.
        slots: how many jobs this process may run at the same time; 0 if it only submits and watches.
        per_user: how many jobs of one user may run at the same time, in all processes together. Interactive and batch
            jobs are counted separately. 0: any number.
        keep_seconds: how long finished jobs are kept.
        lease_seconds: a worker that is silent for this long loses its jobs; at least three times
            `heartbeat.BEAT_SECONDS`.
        maintenance_seconds: time between two rounds of maintenance.
        retry: when jobs are tried again.
        needs: returns the reason why no job can run now (for example that the object store is away), or an empty
            string. While there is a reason, no job is taken, and an attempt that ends with an error is repeated without
            being counted.
    """

    def __init__(
        self,
        database_url: str,
        service: str,
        *,
        handlers: Mapping[str, Handler] | None = None,
        slots: int = 0,
        per_user: int = 0,
        keep_seconds: float = 7 * 86400.0,
        lease_seconds: float = 10.0,
        maintenance_seconds: float = 3600.0,
        retry: RetryPolicy | None = None,
        needs: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        retry = retry or RetryPolicy()
        self._needs = Needs(needs)
        self._url = database_url
        self._service = service
        self._slots = slots
        self._file = sqlite_file(database_url)
        self._database = JobDatabase(database_url)
        self._store = JobStore(self._database)
        self._leases = LeaseStore(self._database, retry.longest_delay_seconds)
        self._requests = RequestStore(self._database)
        self._threads = JobStoreThreads()
        self._active = ActiveJobs()
        self._feed = ChangeFeed(self._store, self._threads)
        rules = WorkRules(service=service, slots=slots, per_user=per_user, lease_seconds=lease_seconds, retry=retry)
        self._worker = Worker(
            rules,
            handlers or {},
            self._leases,
            self._threads,
            self._active,
            needs=self._needs,
            on_change=self._feed.wake,
        )
        self._heartbeat = Heartbeat(rules, self._leases, self._threads, self._active)
        old_jobs = OldJobs(self._store, self._requests, self._threads, keep_seconds)
        self._maintenance = Maintenance(self._file, maintenance_seconds, old_jobs.remove)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Prepares the database and, if this process has slots, begins to take jobs.

        Raises:
            UnavailableError: the database does not answer.
            PreconditionError: the job tables belong to a newer version of StemTube (reason DATABASE_TOO_NEW).
        """
        await migrate(self._url, "services.common.jobs")
        loops = [self._feed.run(), self._maintenance.run()]
        if self._slots:
            await self._needs.look()
            self._worker.start()
            metrics.SLOTS.labels(self._service).set(self._slots)
            metrics.ACTIVE.labels(self._service).set_function(lambda: len(self._active))
            loops += [self._heartbeat.run(), self._worker.write_reports(), self._needs.run()]
        self._tasks += [asyncio.create_task(loop) for loop in loops]

    def limit(self, jobs: int) -> None:
        """Limits how many jobs this process runs at the same time; 0: it takes no more. Running jobs continue."""
        self._worker.limit(jobs)
        metrics.SLOTS.labels(self._service).set(jobs)

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Takes no more jobs, waits `grace_seconds` for running ones, and returns the others to the queue."""
        await self.stop_working(grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._threads.close()
        self._database.close()

    async def stop_working(self, grace_seconds: float = 0.0) -> None:
        """Stops only the worker, as `close` does; jobs can still be submitted and watched."""
        if self._slots:
            await self._worker.stop(grace_seconds)
            self._slots = 0

    async def submit(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        key: str,
        user: str,
        subject: str = "",
        request_id: str = "",
        priority: int = INTERACTIVE,
        reusable: Callable[[JobRecord], Awaitable[bool]] | None = None,
        digest: str = "",
        most_unfinished: int = 0,
    ) -> JobRecord:
        """Accepts a job, which then survives restarts, or joins an equal one.

        Args:
            kind: of the job; it selects the handler.
            payload: JSON for the handler.
            key: equal for equal work, see `job_key`.
            user: whose job it is; users take turns.
            subject: what it is about, to find it by.
            request_id: the caller's; the same again gives the same job.
            priority: `INTERACTIVE` runs before `BATCH`, of all users.
            reusable: whether a job that has succeeded before still serves (its objects may be gone).
            digest: of what the request says, see `requests.request_digest`; empty: it is not compared.
            most_unfinished: jobs that the user may have; 0: any number.

        Raises:
            AlreadyExistsError: another request came with this id (reason REQUEST_ID_REUSED).
            LimitExceededError: the user has too many unfinished jobs for a new one (reason TOO_MANY_JOBS).
        """
        outdated = ""
        if reusable:
            latest = await self._call(self._store.latest, key)
            if latest and latest.state == "succeeded" and not await reusable(latest):
                outdated = latest.id
        wanted = Submission(
            key=key,
            request_id=request_id or uuid.uuid4().hex,
            kind=kind,
            user=user,
            subject=subject,
            payload=payload,
            lane=priority,
            outdated=outdated,
            origin=request_context.origin(),
            digest=digest,
            most_unfinished=most_unfinished,
        )
        record = await self._call(self._store.submit, wanted)
        metrics.SUBMISSIONS.labels(self._service, kind, "kept" if record.finished else "queued").inc()
        log.info("job accepted", job=record.id, kind=kind, user=user, state=record.state)
        self._feed.wake()
        self._worker.wake()
        return record

    @contextlib.asynccontextmanager
    async def claimed(self, request_id: str, digest: str, user: str) -> AsyncGenerator[JobRecord | None, None]:
        """Claims a request's id while its job is being made; gives the job if there is one already.

        Args:
            request_id: as for `submit`.
            digest: as for `submit`.
            user: who sent the request.

        Raises:
            AlreadyExistsError: the id belongs to another request (reason REQUEST_ID_REUSED).
        """
        job_id = await self._call(self._requests.claim, request_id, digest, user)
        try:
            yield await self.get(job_id) if job_id is not None else None
        finally:
            await asyncio.shield(self._call(self._requests.release, request_id))

    async def add_content(self, request_id: str, digest: str, content_digest: str) -> None:
        """Records the digest of the content that followed a claimed request, before the content is used.

        Raises:
            AlreadyExistsError: other content came with this id before (reason REQUEST_ID_REUSED).
        """
        await self._call(self._requests.add_content, request_id, digest, content_digest)

    async def _call(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Calls a method of a store in a thread.

        Raises:
            UnavailableError, DataLossError: see `outages`.
        """
        with outages(self._file):
            return await self._threads.call(method, *arguments, **options)

    async def get(self, job_id: str) -> JobRecord:
        """The current state of a job.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        record = await self._call(self._store.get, job_id)
        if record is None:
            raise NotFoundError("There is no such job.", "NO_SUCH_JOB")
        return record

    async def outputs(self, job_id: str) -> dict[str, Any]:
        """The parts of a job's result that are ready, by name."""
        return await self._call(self._leases.outputs, job_id)

    async def jobs_of(
        self, user: str, *, before: tuple[float, str] | None = None, limit: int = 50, subject: str = ""
    ) -> list[JobRecord]:
        """A user's jobs, newest first: those created before (time, id), and those of one subject, if given."""
        return await self._call(self._store.jobs_of, user, before, limit, subject)

    async def unfinished(self, user: str | None = None) -> list[JobRecord]:
        """Unfinished jobs, oldest first; those of one user if given."""
        return await self._call(self._store.unfinished, user)

    async def subjects_in_work(
        self, subjects: Sequence[str], *, user: str | None = None, besides: str = ""
    ) -> set[str]:
        """Those of these subjects that unfinished jobs (of one user) are about.

        Args:
            subjects: as jobs were submitted with.
            user: whose jobs count; None: everybody's.
            besides: the id of a job that does not count.
        """
        return await self._call(self._store.subjects_in_work, subjects, user, besides)

    async def counts(self) -> dict[State, int]:
        """The number of jobs in each state; finished ones are removed after `keep_seconds`."""
        return await self._call(self._store.counts)

    async def unfinished_count(self, user: str) -> int:
        """The number of a user's unfinished jobs."""
        return await self._call(self._store.unfinished_count, user)

    @property
    def file(self) -> Path | None:
        """The database file; None with PostgreSQL."""
        return self._file

    @property
    def name(self) -> str:
        """The name of the service."""
        return self._service

    @property
    def slots(self) -> int:
        """How many jobs this process can run at the same time."""
        return self._slots

    @property
    def busy(self) -> int:
        """How many jobs this process is running."""
        return len(self._active)

    def look(self) -> Backlog:
        """Counts the jobs that wait and run now, of all processes. Blocks.

        Raises:
            UnavailableError, DataLossError: see `outages`.
        """
        with outages(self._file):
            return self._store.backlog()

    async def cancel(self, job_id: str, request_id: str | None = None) -> None:
        """Withdraws one request for a job, or all (None); the job stops when no request is left. Idempotent.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        record = await self.get(job_id)
        if await self._call(self._requests.withdraw, job_id, request_id):
            self._active.stop(job_id)
            log.info("job cancelled", job=job_id)
            await self._worker.admit(record.user)
        self._feed.wake()

    async def cancel_request(self, request_id: str) -> None:
        """Withdraws a request by the caller's id; if it has not arrived yet, it will be refused. Idempotent."""
        job_id = await self._call(self._requests.refuse, request_id)
        if job_id is not None:
            await self.cancel(job_id, request_id)

    async def kept_step(self, job_id: str, name: str) -> dict[str, Any] | None:
        """The stored outcome of a step: its `result` or its `error`; None if there is none."""
        return await self._call(self._leases.kept_step, job_id, name)

    async def give_up_result(self, request_id: str) -> JobRecord | None:
        """Discards the result of a withdrawn request's job if no other request wants it, and returns the job.

        The job then counts as cancelled, and later requests do not get its result. The caller may remove its objects.
        Idempotent.
        """
        record = await self._call(self._requests.give_up_result, request_id)
        self._feed.wake()
        return record

    async def watch(self, job_id: str) -> AsyncGenerator[JobRecord, None]:
        """Yields the job now and after each change, until it has ended; fast changes are merged into the newest.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        with self._feed.subscribed(lambda record: record.id == job_id, limit=1) as changes:
            record = await self.get(job_id)
            yield record
            while not record.finished:
                newer = await changes.take(LOOK_AGAIN_SECONDS)
                # The feed can miss a change if its transaction took long.
                latest = newer[0] if newer else await self.get(job_id)
                if latest.version > record.version or (
                    latest.version == record.version and latest.queue_position != record.queue_position
                ):
                    record = latest
                    yield record

    async def changes(self, wants: Callable[[JobRecord], bool], limit: int = 1000) -> AsyncGenerator[JobRecord, None]:
        """Yields jobs that change from now on; fast changes of a job are merged into the newest.

        Args:
            wants: selects jobs by their record.
            limit: how many changed jobs may wait to be taken; beyond that the oldest are dropped.
        """
        with self._feed.subscribed(wants, limit) as changes:
            while True:
                for record in await changes.take():
                    yield record

    def add_maintenance(self, task: Callable[[], Awaitable[Any]]) -> None:
        """Adds a task that runs now and every `maintenance_seconds`, as long as the queue is open."""
        self._maintenance.tasks.append(task)
