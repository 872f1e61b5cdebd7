"""Durable jobs: what a service needs to submit, watch and cancel them, and to have them done.

A job is one row of a table. Its handler runs on the worker that claims it; the steps that it finished are not run again
when another worker goes on. While it runs it holds a lease (`leases.py`). A worker that falls silent loses the lease,
the job returns to the queue, and the database refuses what the silent worker still writes.
"""

import asyncio
import contextlib
import hashlib
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
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
        database_url: SQLite or PostgreSQL, the service's own.
        service: its name.
        handlers: by kind of job, for a process that works.
        slots: jobs that run at a time in this process; 0 for one that only submits and watches.
        per_user: jobs of a user that run at a time, in all processes together, interactive and batch ones each; 0: any
            number.
        keep_seconds: how long finished jobs are kept.
        lease_seconds: a worker silent for so long loses its jobs; at least three times `heartbeat.BEAT_SECONDS`.
        maintenance_seconds: time between two rounds of maintenance.
        retry: when jobs are tried again.
        needs: tells why no job can be done now (the object store is away), empty if jobs can. Until then no job is
            taken, and an attempt that ends with an error is made again and not counted.
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
        self._worker = Worker(
            service,
            handlers or {},
            self._leases,
            self._threads,
            self._active,
            slots=slots,
            per_user=per_user,
            lease_seconds=lease_seconds,
            retry=retry,
            needs=self._needs,
            on_change=self._feed.wake,
        )
        self._heartbeat = Heartbeat(
            service,
            self._leases,
            self._threads,
            self._active,
            per_user=per_user,
            lease_seconds=lease_seconds,
            retry=retry,
        )
        old_jobs = OldJobs(self._store, self._requests, self._threads, keep_seconds)
        self._maintenance = Maintenance(self._file, maintenance_seconds, old_jobs.remove)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Prepares the database and, in a process that works, begins to take jobs.

        Raises:
            UnavailableError: the database does not answer.
            PreconditionError: a newer StemTube made its job tables (reason DATABASE_TOO_NEW).
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
        """Has this process take no more than so many jobs at a time from now on; with 0 none. Those in hand go on."""
        self._worker.limit(jobs)
        metrics.SLOTS.labels(self._service).set(jobs)

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Takes no more jobs, lets those in hand end within `grace_seconds`, and gives the others back to the queue."""
        await self.stop_working(grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._threads.close()
        self._database.close()

    async def stop_working(self, grace_seconds: float = 0.0) -> None:
        """The worker's part of `close`; after it jobs can still be submitted and watched."""
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
        """Accepts a job, durable from here on, or joins an equal one.

        Args:
            kind: which handler does it.
            payload: JSON.
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
            latest = await self._ask(self._store.latest, key)
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
        record = await self._ask(self._store.submit, wanted)
        metrics.SUBMISSIONS.labels(self._service, kind, "kept" if record.finished else "queued").inc()
        log.info("job accepted", job=record.id, kind=kind, user=user, state=record.state)
        self._feed.wake()
        self._worker.wake()
        return record

    @contextlib.asynccontextmanager
    async def claimed(self, request_id: str, digest: str, user: str) -> AsyncGenerator[JobRecord | None, None]:
        """Claims a request's id for the block that makes its job; the job, if it is there already.

        Args:
            request_id: as for `submit`.
            digest: as for `submit`.
            user: whose request it is.

        Raises:
            AlreadyExistsError: another request came with this id (reason REQUEST_ID_REUSED).
        """
        job_id = await self._ask(self._requests.claim, request_id, digest, user)
        try:
            yield await self.get(job_id) if job_id is not None else None
        finally:
            await asyncio.shield(self._ask(self._requests.release, request_id))

    async def add_content(self, request_id: str, digest: str, content_digest: str) -> None:
        """Notes what content came with a claimed request, before anything is made of it.

        Raises:
            AlreadyExistsError: another content came with this id (reason REQUEST_ID_REUSED).
        """
        await self._ask(self._requests.add_content, request_id, digest, content_digest)

    async def _ask(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Calls the store in a thread.

        Raises:
            UnavailableError, DataLossError: see `outages`.
        """
        with outages(self._file):
            return await self._threads.call(method, *arguments, **options)

    async def get(self, job_id: str) -> JobRecord:
        """A job as it is now.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        record = await self._ask(self._store.get, job_id)
        if record is None:
            raise NotFoundError("There is no such job.", "NO_SUCH_JOB")
        return record

    async def outputs(self, job_id: str) -> dict[str, Any]:
        """The parts of a job's result that are ready, by name."""
        return await self._ask(self._leases.outputs, job_id)

    async def jobs_of(
        self, user: str, *, before: tuple[float, str] | None = None, limit: int = 50, subject: str = ""
    ) -> list[JobRecord]:
        """A user's jobs, newest first; those before (creation time, id), of one subject if given."""
        return await self._ask(self._store.jobs_of, user, before, limit, subject)

    async def unfinished(self, user: str | None = None) -> list[JobRecord]:
        """Unfinished jobs (of one user), oldest first."""
        return await self._ask(self._store.unfinished, user)

    async def counts(self) -> dict[State, int]:
        """How many jobs there are in each state; finished ones are forgotten after some time."""
        return await self._ask(self._store.counts)

    async def unfinished_count(self, user: str) -> int:
        """How many unfinished jobs a user has."""
        return await self._ask(self._store.unfinished_count, user)

    @property
    def file(self) -> Path | None:
        """The SQLite file of its database; None if it is PostgreSQL's."""
        return self._file

    @property
    def name(self) -> str:
        """The service whose jobs they are."""
        return self._service

    @property
    def slots(self) -> int:
        """Jobs that this process can do at a time."""
        return self._slots

    @property
    def busy(self) -> int:
        """Jobs that this process is at."""
        return len(self._active)

    def look(self) -> Backlog:
        """What there is to do now, for this process and all others. Blocks.

        Raises:
            UnavailableError, DataLossError: see `outages`.
        """
        with outages(self._file):
            return self._store.backlog()

    async def cancel(self, job_id: str, request_id: str | None = None) -> None:
        """Withdraws a request (None: all); the job stops when no other waits for it. Idempotent.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        record = await self.get(job_id)
        if await self._ask(self._requests.withdraw, job_id, request_id):
            self._active.stop(job_id)
            log.info("job cancelled", job=job_id)
            await self._worker.admit(record.user)
        self._feed.wake()

    async def cancel_request(self, request_id: str) -> None:
        """Withdraws a request by the caller's id, also one that is still on its way here. Idempotent."""
        job_id = await self._ask(self._requests.refuse, request_id)
        if job_id is not None:
            await self.cancel(job_id, request_id)

    async def give_up_result(self, request_id: str) -> JobRecord | None:
        """The job of a withdrawn request, if it has a result that nobody wants: later requests do not get it.

        Its state is then cancelled, and the caller may remove what came of it. The same again gives the same.
        """
        record = await self._ask(self._requests.give_up_result, request_id)
        self._feed.wake()
        return record

    async def watch(self, job_id: str) -> AsyncGenerator[JobRecord, None]:
        """The job as it is, then after each change (the newest, where they come fast), up to its end.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        with self._feed.subscribed(lambda record: record.id == job_id, limit=1) as changes:
            record = await self.get(job_id)
            yield record
            while not record.finished:
                newer = await changes.take(LOOK_AGAIN_SECONDS)
                # The feed misses a change whose transaction took long.
                latest = newer[0] if newer else await self.get(job_id)
                if latest.version > record.version or (
                    latest.version == record.version and latest.queue_position != record.queue_position
                ):
                    record = latest
                    yield record

    async def changes(self, wants: Callable[[JobRecord], bool], limit: int = 1000) -> AsyncGenerator[JobRecord, None]:
        """Each change, from now on, of the jobs that are wanted; of a job that changes fast the newest.

        Args:
            wants: tells by a job's record.
            limit: of jobs whose changes wait to be taken; the oldest are dropped past that.
        """
        with self._feed.subscribed(wants, limit) as changes:
            while True:
                for record in await changes.take():
                    yield record

    def add_maintenance(self, task: Callable[[], Awaitable[Any]]) -> None:
        """Has something done at the start and every `maintenance_seconds`, as long as the queue is open."""
        self._maintenance.tasks.append(task)
