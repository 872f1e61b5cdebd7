"""Durable jobs: submit, watch, cancel, handle. The only module that knows the engine, DBOS.

A job is one durable workflow. Its body runs on whichever worker takes it from the queue; the steps it finished are not
run again when another worker goes on. While it runs it holds a lease (`job_store`): a worker that falls silent loses
it, the job returns to the queue, and whatever the silent one still does is refused. The engine alone would wait for
ever for a dead worker.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, ParamSpec, TypeVar

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from services.common.errors import (
    Code,
    DataLossError,
    DeviceError,
    DeviceNotReadyError,
    NotFoundError,
    StemTubeError,
    StoppedError,
    UnavailableError,
)
from services.common.jobs import metrics
from services.common.jobs.requests import RequestStore
from services.common.jobs.store import Backlog, JobRecord, JobStore
from services.common.jobs.tables import State
from services.common.jobs.threads import JobStoreThreads
from services.common.observe import request_context, tracing
from services.common.storage.database import migrate, outages
from services.common.storage.sqlite_files import sqlite_file

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

APPLICATION_VERSION = "1"
QUEUE_POLL_SECONDS = 0.2
BEAT_SECONDS = 1.0
MAX_DEATHS = 3
MAX_DEVICE_FAULTS = 5
"""A job at which so many times the device of a worker failed fails itself."""
LEFT_SECONDS, REST_SECONDS = 60.0, 2.0
"""A worker whose device failed at a job leaves it to others that are at work for so long, and looks again so often."""
MAX_RETRIES = 4
RETRY_SECONDS = 1.0
REPORT_SECONDS = 0.1
WATCH_POLL_SECONDS = 0.1
LOOK_AGAIN_SECONDS = 5.0
PLACES_TOLD = 20
"""Of queued jobs up to this place, each step forward is told at once; of others when they are looked at again."""
INTERACTIVE, BATCH = 0, 1
BEGIN_AT_ONCE = 4
"""Jobs that one process begins at a time: each takes a connection to the database."""
TRANSIENT = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED)


def job_key(*parts: Any) -> str:
    """A key that is equal for equal work: a hash over parts that JSON can tell apart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class JobContext:
    """What a handler knows of its job, and how it tells where it is.

    `report` may be called from any thread, as often as it likes: what is newest is written ten times a second.
    """

    def __init__(self, record: JobRecord, lease: str, store: JobStore) -> None:
        self._store = store
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
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._news: tuple[str, float, float | None, dict[str, Any]] | None = None
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
            self._news = (stage, fraction, eta_seconds, self.detail)

    def save_output(self, name: str, content: Any) -> None:
        """Keeps a part of the result (JSON) that is ready before the job ends. Blocks; for worker threads."""
        self._store.save_output(self.job_id, self.lease, name, content)

    def outputs(self) -> dict[str, Any]:
        """What this and earlier attempts have kept with `save_output`, by name. Blocks."""
        return self._store.outputs(self.job_id)

    def is_final(self, error: StemTubeError) -> bool:
        """Whether the job ends with this error rather than being tried again."""
        tries = MAX_DEATHS - 1 if error.reason == "WORKER_DIED" else MAX_RETRIES
        return error.code not in TRANSIENT or self.retries >= tries

    @property
    def has_news(self) -> bool:
        """Whether a report has not been written yet."""
        return self._news is not None

    def take_news(self) -> tuple[str, float, float | None, dict[str, Any]] | None:
        """The newest report not yet written."""
        with self._lock:
            news, self._news = self._news, None
            return news

    def stop(self) -> None:
        """From now on `report` raises."""
        self._stopped.set()

    async def step(self, name: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Runs a step of the job whose outcome (JSON, or a domain error) is kept: a later attempt gets it as it was.

        A transient error is not kept: the next attempt runs the step again. Steps that run side by side must be started
        in the same order each time.
        """
        failure: StemTubeError | None = None
        has_run = False

        async def outcome() -> dict[str, Any]:
            nonlocal failure, has_run
            has_run = True
            try:
                with tracing.span(f"step {name}"):
                    return {"result": await work()}
            except StoppedError:
                raise asyncio.CancelledError from None
            except StemTubeError as error:
                if error.code in TRANSIENT or isinstance(error, DeviceError):
                    failure = error
                    raise asyncio.CancelledError from None  # of which the engine keeps nothing
                return {"error": error_detail(error)}

        while True:
            try:
                kept: dict[str, Any] = await DBOS.run_step_async({"name": name}, outcome)
            except asyncio.CancelledError:
                if failure is not None:
                    raise failure from None
                raise
            if "error" not in kept:
                result: dict[str, Any] = kept["result"]
                return result
            error = KeptError(kept["error"])
            if has_run or error.code not in TRANSIENT:
                raise error
            # Earlier versions kept transient errors, and ran the step again under the next number.


class KeptError(StemTubeError):
    """A domain error as a job keeps it (see `error_detail`), raised again."""

    def __init__(self, detail: Mapping[str, Any]) -> None:
        super().__init__(detail["message"], detail["reason"])
        self.code = Code(detail["code"])


Handler = Callable[[JobContext], Awaitable[dict[str, Any]]]


@dataclass(eq=False)
class _Subscription:
    wants: Callable[[JobRecord], bool]
    limit: int
    pending: dict[str, JobRecord]
    wake: asyncio.Event


class _Watched(Generic[K, V]):
    """Notices what does not change, by this process's own time: the database's clock may be set, back or forth."""

    def __init__(self) -> None:
        self._since: dict[K, tuple[V, float]] = {}

    def unchanged(self, present: Mapping[K, V], seconds: float) -> dict[K, V]:
        """What has been the same for so long, as far as it has been looked at.

        Args:
            present: all that there is now.
            seconds: the least time.
        """
        now = time.monotonic()
        before, self._since = self._since, {}
        for key, value in present.items():
            known = before.get(key)
            self._since[key] = known if known and known[0] == value else (value, now)
        return {key: value for key, (value, since) in self._since.items() if now - since > seconds}


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
        lease_seconds: a worker silent for so long loses its jobs; at least three times `BEAT_SECONDS`.
        chore_seconds: time between two rounds of housekeeping.
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
        chore_seconds: float = 3600.0,
    ) -> None:
        self._url = database_url
        self._service = service
        self._queue = f"{service}-jobs"
        self._handlers = handlers or {}
        self._slots = slots
        self._room = slots
        self._resting_until = 0.0
        self._faulted: dict[str, tuple[int, float]] = {}
        self._per_user = per_user
        self._beginning = asyncio.Semaphore(BEGIN_AT_ONCE)
        self._keep_seconds = keep_seconds
        self._lease_seconds = lease_seconds
        self._chore_seconds = chore_seconds
        self._chores: list[Callable[[], Awaitable[Any]]] = []
        self._store = JobStore(database_url)
        self._requests = RequestStore(self._store.engine, self._store.clock)
        self._threads = JobStoreThreads()
        self._file = sqlite_file(database_url)
        self._client: DBOSClient
        self._active: dict[str, tuple[JobContext, asyncio.Task[Any]]] = {}
        self._subscriptions: set[_Subscription] = set()
        self._beats: _Watched[tuple[str, str], float] = _Watched()
        self._tasks: list[asyncio.Task[None]] = []
        self._poke = asyncio.Event()

    async def start(self) -> None:
        """Prepares the database and, in a process that works, begins to take jobs.

        Raises:
            UnavailableError: the database does not answer.
            PreconditionError: a newer StemTube made its job tables (reason DATABASE_TOO_NEW).
        """
        engine_log = logging.getLogger("dbos")
        engine_log.setLevel(max(logging.WARNING, logging.getLogger().level))
        engine_log.addHandler(logging.NullHandler())
        engine_log.addFilter(_is_no_cancellation)
        await migrate(self._url, "services.common.jobs")
        with outages(self._file, for_operator=True):
            await asyncio.to_thread(DBOS.migrate, self._url)
            self._client = await asyncio.to_thread(
                lambda: DBOSClient(
                    system_database_url=self._url, application_name=self._queue, serializer=DBOSPortableJSONSerializer()
                )
            )
            if self._slots:
                await self._start_engine()
        if self._slots:
            metrics.SLOTS.labels(self._service).set(self._slots)
            metrics.ACTIVE.labels(self._service).set_function(lambda: len(self._active))
            self._tasks.append(asyncio.create_task(self._beat()))
            self._tasks.append(asyncio.create_task(self._write_reports()))
        self._tasks.append(asyncio.create_task(self._publish_changes()))
        self._tasks.append(asyncio.create_task(self._keep_house()))

    async def _start_engine(self) -> None:
        config = DBOSConfig(
            name=self._queue,
            system_database_url=self._url,
            application_version=APPLICATION_VERSION,
            executor_id=uuid.uuid4().hex,
            log_level="WARNING",
            serializer=DBOSPortableJSONSerializer(),
        )
        engine = DBOS(config=config)

        async def job(job_id: str) -> None:
            await self._run(job_id)

        DBOS.workflow(name="job", max_recovery_attempts=None)(job)
        DBOS.launch()
        self._ask_before_taking(engine)
        await asyncio.to_thread(
            DBOS.register_queue,
            self._queue,
            worker_concurrency=self._slots,
            polling_interval_sec=QUEUE_POLL_SECONDS,
            on_conflict="always_update",
        )

    def _ask_before_taking(self, engine: DBOS) -> None:
        """Has the engine take no more jobs than `limit` says; its own limit is in the database, one for all workers."""
        take = engine._sys_db.start_queued_workflows

        def take_some(queue: Any, *arguments: Any, **options: Any) -> Any:
            if queue.name == self._queue:
                room = 0 if time.monotonic() < self._resting_until else self._room
                queue._worker_concurrency = min(queue._worker_concurrency or room, room)
            return take(queue, *arguments, **options)

        engine._sys_db.start_queued_workflows = take_some  # type: ignore[method-assign]

    def limit(self, jobs: int) -> None:
        """Has this process take no more than so many jobs at a time from now on; with 0 none. Those in hand go on."""
        self._room = jobs
        metrics.SLOTS.labels(self._service).set(jobs)

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Takes no more jobs, lets those in hand end within `grace_seconds`, and gives the others back to the queue."""
        await self.stop_working(grace_seconds)
        await self._end_tasks()
        await self._threads.call(self._client.destroy)
        self._threads.close()
        self._store.close()

    async def stop_working(self, grace_seconds: float = 0.0) -> None:
        """The worker's part of `close`; after it jobs can still be submitted and watched."""
        if not self._slots:
            return
        loop = asyncio.get_running_loop()
        engine_end = loop.run_in_executor(
            ThreadPoolExecutor(1),
            lambda: DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=math.ceil(grace_seconds) + 5),
        )
        running = [task for _, task in self._active.values()]
        if running and grace_seconds:
            await asyncio.wait(running, timeout=grace_seconds)
        # The engine made its own pool the loop's default one, and is about to close it.
        loop.set_default_executor(ThreadPoolExecutor())
        await self._give_all_back()
        await engine_end
        loop.set_default_executor(ThreadPoolExecutor())
        self._slots = 0

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _give_back(self, context: JobContext, device_fault: bool = False) -> None:
        give = self._store.hand_on if device_fault else self._store.release
        if await self._threads.call(give, context.job_id, context.lease):
            await self._threads.call(self._client.resume_workflow, context.job_id, queue_name=self._queue)
            log.info("job given back", job=context.job_id)
        if self._active.get(context.job_id, (None,))[0] is context:
            self._stop(context.job_id)

    async def _give_all_back(self) -> None:
        contexts = [context for context, _ in self._active.values()]
        ids = await self._threads.call(self._store.release_all, [(job.job_id, job.lease) for job in contexts])
        await self._resume(ids)
        for context in contexts:
            if self._active.get(context.job_id, (None,))[0] is context:
                self._stop(context.job_id)
        if ids:
            log.info("jobs given back", count=len(ids))

    async def _resume(self, ids: list[str]) -> None:
        """Has the engine hand out jobs of ours that are queued."""
        if ids:
            await self._threads.call(self._client.resume_workflows, ids, queue_name=self._queue)

    # ---- what a service offers

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
    ) -> JobRecord:
        """Accepts a job, durable from here on, or joins an equal one.

        Args:
            kind: which handler does it.
            payload: JSON.
            key: equal for equal work, see `job_key`.
            user: whose job it is; users take turns.
            subject: what it is about, to find it by.
            request_id: the caller's; the same again gives the same job.
            priority: `INTERACTIVE` runs before `BATCH`, whoever's it is.
            reusable: whether a job that has succeeded before still serves (its objects may be gone).
            digest: of what the request says, see `request_digest`; empty: it is not compared.

        Raises:
            AlreadyExistsError: another request came with this id (reason REQUEST_ID_REUSED).
        """

        def move(connection: Connection, job_id: str, turn: int) -> None:
            # The engine has no call for it.
            status = sa.table(
                "workflow_status",
                sa.column("workflow_uuid"),
                sa.column("priority"),
                schema=None if connection.dialect.name == "sqlite" else "dbos",
            )
            connection.execute(sa.update(status).where(status.c.workflow_uuid == job_id).values(priority=turn))

        def enqueue(connection: Connection, job_id: str, turn: int) -> None:
            options: Any = {
                "workflow_name": "job",
                "queue_name": self._queue,
                "workflow_id": job_id,
                "app_version": APPLICATION_VERSION,
                "priority": turn,
            }
            self._client.enqueue_in_transaction(connection, options, job_id)

        outdated = ""
        if reusable:
            latest = await self._ask(self._store.latest, key)
            if latest and latest.state == "succeeded" and not await reusable(latest):
                outdated = latest.id
        record = await self._ask(
            self._store.submit,
            key=key,
            request_id=request_id or uuid.uuid4().hex,
            kind=kind,
            user=user,
            subject=subject,
            payload=payload,
            lane=priority,
            enqueue=enqueue,
            move=move,
            outdated=outdated,
            origin=request_context.origin(),
            digest=digest,
        )
        metrics.SUBMISSIONS.labels(self._service, kind, "kept" if record.finished else "queued").inc()
        log.info("job accepted", job=record.id, kind=kind, user=user, state=record.state)
        self._poke.set()
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
        return await self._ask(self._store.outputs, job_id)

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
        if await self._ask(self._store.withdraw, job_id, request_id):
            await self._ask(self._client.cancel_workflow, job_id)
            if job_id in self._active:
                self._stop(job_id)
            log.info("job cancelled", job=job_id)
            await self._admit(record.user)
        self._poke.set()

    async def cancel_request(self, request_id: str) -> None:
        """Withdraws a request by the caller's id, also one that is still on its way here. Idempotent."""
        job_id = await self._ask(self._store.refuse_request, request_id)
        if job_id is not None:
            await self.cancel(job_id, request_id)

    async def give_up_result(self, request_id: str) -> JobRecord | None:
        """The job of a withdrawn request, if it has a result that nobody wants: later requests do not get it.

        Its state is then cancelled, and the caller may remove what came of it. The same again gives the same.
        """
        record = await self._ask(self._store.give_up_result, request_id)
        self._poke.set()
        return record

    async def watch(self, job_id: str) -> AsyncGenerator[JobRecord, None]:
        """The job as it is, then after each change (the newest, where they come fast), up to its end.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        with self._subscribed(lambda record: record.id == job_id, limit=1) as changes:
            record = await self.get(job_id)
            yield record
            while not record.finished:
                newer = await _take(changes, LOOK_AGAIN_SECONDS)
                # A change that was long in being committed is in nobody's news.
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
        with self._subscribed(wants, limit) as changes:
            while True:
                for record in await _take(changes):
                    yield record

    @contextlib.contextmanager
    def _subscribed(self, wants: Callable[[JobRecord], bool], limit: int) -> Any:
        subscription = _Subscription(wants, limit, {}, asyncio.Event())
        self._subscriptions.add(subscription)
        self._poke.set()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    # ---- the worker

    async def _run(self, job_id: str) -> None:
        if await self._leaves_to_others(job_id):
            await self._threads.call(self._client.resume_workflow, job_id, queue_name=self._queue)
            raise asyncio.CancelledError
        lease = uuid.uuid4().hex
        async with self._beginning:
            record = await self._threads.call(self._store.begin, job_id, lease, self._per_user)
        if record is None:
            if await self._threads.call(self._store.is_unfinished, job_id):
                raise asyncio.CancelledError  # it waits; the engine must not take it for done
            return
        context = JobContext(record, lease, self._store)
        parent = request_context.bind_origin(record.origin or {})
        structlog.contextvars.bind_contextvars(job=job_id, user=record.user)
        with tracing.span(
            f"job {record.kind}",
            kind="consumer",
            parent=parent,
            job=job_id,
            queue=self._service,
            attempt=record.attempts,
        ) as span:
            await self._work(context, record, span)

    async def _work(self, context: JobContext, record: JobRecord, span: tracing.Span) -> None:
        job_id, lease = context.job_id, context.lease
        task = asyncio.current_task()
        assert task is not None
        self._active[job_id] = (context, task)
        log.info("job started", kind=record.kind, attempt=record.attempts)
        if record.attempts == 1 and record.started_at:
            metrics.WAIT_SECONDS.labels(self._service, record.kind).observe(record.started_at - record.created_at)
        began = time.perf_counter()
        try:
            state, result, error = await self._outcome(context, record.kind)
            await self._write_report(context)
            if state == "queued":
                await self._put_back(context, error)
                raise asyncio.CancelledError  # the engine must not take it for done
            finished = await self._threads.call(self._store.finish, job_id, lease, state, result, error)
        except Exception as fault:
            # The engine must not take it for done: whoever finds the lease silent goes on with it.
            log.exception("job could not be ended")
            raise asyncio.CancelledError from fault
        finally:
            context.stop()
            if self._active.get(job_id, (None,))[0] is context:
                del self._active[job_id]
            self._poke.set()
        if finished:
            await self._admit(record.user)
        span.set(state=state if finished else "lease lost")
        if error:
            span.fail(error["reason"])
        if finished:
            metrics.WORK_SECONDS.labels(self._service, record.kind).observe(time.perf_counter() - began)
            metrics.ENDS.labels(self._service, record.kind, state, error["reason"] if error else "").inc()
        if finished and error:
            log.warning("job failed", reason=error["reason"], error=error["message"], attempt=record.attempts)
        else:
            log.info("job ended", state=state if finished else "lease lost")
        if not finished:
            raise asyncio.CancelledError  # likewise

    async def _outcome(self, context: JobContext, kind: str) -> tuple[State, dict[str, Any] | None, Any]:
        """How an attempt ends: state, result and error; "queued" with an error after which the job is tried again."""
        try:
            return "succeeded", await self._handlers[kind](context), None
        except StoppedError:
            raise asyncio.CancelledError from None
        except DeviceError as error:
            return await self._after_device_error(context, error)
        except StemTubeError as error:
            return "failed" if context.is_final(error) else "queued", None, error_detail(error)
        except DBAPIError as error:
            # The engine could not note a step down. What was done since the last one is done again.
            log.warning("the database is away; the job goes back to the queue", error=type(error.orig).__name__)
            await self._give_back(context)
            raise asyncio.CancelledError from None
        except Exception:
            log.exception("job failed")
            return "failed", None, INTERNAL_ERROR

    async def _put_back(self, context: JobContext, error: dict[str, Any]) -> None:
        """Queues a job for its next attempt, which any worker makes; until then it holds nothing here."""
        seconds = RETRY_SECONDS * 2**context.retries
        if await self._threads.call(self._store.put_back, context.job_id, context.lease, seconds, error):
            log.warning("job will be tried again", error=error["message"], reason=error["reason"], seconds=seconds)
            await self._admit(context.user)

    async def _admit(self, user: str) -> None:
        """Has jobs of a user start for which there is room now; those that are forgotten here `_beat` finds."""
        if self._per_user:
            try:
                await self._resume(await self._threads.call(self._store.admit, user, self._per_user))
            except DBAPIError as error:
                log.warning("cannot look for jobs that may start", error=type(error.orig).__name__)

    async def _after_device_error(
        self, context: JobContext, error: DeviceError
    ) -> tuple[State, dict[str, Any] | None, Any]:
        """Gives the job back for another worker to do; the outcome of one that no device seems able to do."""
        began = not isinstance(error, DeviceNotReadyError)
        if began and context.device_faults + 1 >= MAX_DEVICE_FAULTS:
            return "failed", None, error_detail(error)
        log.warning("the job goes to another worker", reason=error.reason, error=error.message)
        if began:
            times, _ = self._faulted.get(context.job_id, (0, 0.0))
            self._faulted[context.job_id] = (times + 1, time.monotonic() + LEFT_SECONDS)
        await self._give_back(context, device_fault=began)
        raise asyncio.CancelledError

    async def _leaves_to_others(self, job_id: str) -> bool:
        """Whether a job that has just been taken is put back.

        So it is if no more jobs are to be taken, and if the devices of this process failed at the job while other
        workers have something to do: one that had not would have taken it already.
        """
        now = time.monotonic()
        self._faulted = {faulted: (times, until) for faulted, (times, until) in self._faulted.items() if until > now}
        if len(self._active) >= self._room:
            return True
        if job_id not in self._faulted or self._faulted[job_id][0] < self._slots:
            return False
        if not await self._threads.call(self._store.others_work, list(self._active), self._lease_seconds):
            return False
        self._resting_until = now + REST_SECONDS
        return True

    async def _beat(self) -> None:
        """Keeps the leases of this worker's jobs, stops those that were cancelled or taken, takes over silent ones."""
        awake_since = beaten = looked = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if time.monotonic() - beaten > self._lease_seconds / 2:
                awake_since = time.monotonic()  # after a standstill others, too, need time to show that they live
            beaten = time.monotonic()
            try:
                leases = [(context.job_id, context.lease) for context, _ in self._active.values()]
                held = await self._threads.call(self._store.beat, leases) if leases else set()
                for job_id, lease in leases:
                    current = self._active.get(job_id)
                    if (job_id, lease) not in held and current and current[0].lease == lease:
                        log.warning("job is no longer ours", job=job_id)
                        self._stop(job_id)
                await self._resume(await self._threads.call(self._store.take_due))
                if time.monotonic() - awake_since > self._lease_seconds:
                    silent = self._beats.unchanged(await self._threads.call(self._store.beats), self._lease_seconds)
                    for record in await self._threads.call(self._store.take_silent, silent) if silent else ():
                        await self._take_over(record)
                    if time.monotonic() - looked > LOOK_AGAIN_SECONDS:
                        looked = time.monotonic()
                        await self._resume_forgotten()
                metrics.BEAT.labels(self._service).set_to_current_time()
            except DBAPIError as error:
                awake_since = time.monotonic()
                log.warning("cannot keep the leases; trying again", error=type(error.orig).__name__)
            except Exception:
                awake_since = time.monotonic()
                log.exception("cannot keep the leases; trying again")

    def _stop(self, job_id: str) -> None:
        context, task = self._active[job_id]
        context.stop()
        task.cancel()

    async def _resume_forgotten(self) -> None:
        """Resumes jobs that wait while nobody is about to begin them: whoever took them, or let them start, died."""
        forgotten = await self._threads.call(self._store.take_forgotten, self._lease_seconds)
        if forgotten:
            log.warning("jobs resumed", count=len(forgotten))
        await self._resume(forgotten)
        if self._per_user:
            await self._resume(await self._threads.call(self._store.admit_all, self._per_user))

    async def _take_over(self, record: JobRecord) -> None:
        metrics.TAKEN_OVER.labels(self._service).inc()
        if record.deaths >= MAX_DEATHS:
            if await self._threads.call(self._store.give_up, record.id, WORKER_DIED):
                await self._threads.call(self._client.cancel_workflow, record.id)
                metrics.ENDS.labels(self._service, record.kind, "failed", WORKER_DIED["reason"]).inc()
                log.error("job given up: its worker died each time", job=record.id, attempts=record.attempts)
        else:
            log.warning("job taken over from a silent worker", job=record.id, attempts=record.attempts)
            await self._threads.call(self._client.resume_workflow, record.id, queue_name=self._queue)

    async def _write_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            for context, _ in list(self._active.values()):
                if context.has_news:
                    await self._write_report(context)

    async def _write_report(self, context: JobContext) -> None:
        async with context.writing:  # one after another, or an older report could overwrite a newer one
            news = context.take_news()
            if news is None:
                return
            try:
                await self._threads.call(self._store.report, context.job_id, context.lease, *news)
                self._poke.set()
            except Exception as error:
                log.warning("progress could not be noted", error=type(error).__name__)

    # ---- watchers

    async def _publish_changes(self) -> None:
        """Hands changes in the database to those who watch here; one query for all of them."""
        moment: float | None = None
        shown: dict[str, int] = {}
        waiting: dict[str, JobRecord] = {}
        while True:
            if not self._subscriptions:
                moment, waiting = None, {}
                self._poke.clear()
                await self._poke.wait()
            try:
                moment, records = await self._threads.call(self._store.changed_since, moment)
                fresh = [record for record in records if shown.get(record.id) != record.version]
                shown = {record.id: record.version for record in records}
                waiting |= {record.id: record for record in fresh}
                moved = await self._moved(waiting) if fresh else []
            except Exception as error:
                log.warning("cannot look for changes; trying again", error=type(error).__name__)
                await asyncio.sleep(1.0)
                continue
            waiting = {record.id: record for record in (*waiting.values(), *moved) if record.state == "queued"}
            self._hand_out([*fresh, *moved])
            self._poke.clear()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: Python 3.11's swallows a cancellation that arrives together with the poke.
                async with asyncio.timeout(WATCH_POLL_SECONDS):
                    await self._poke.wait()

    async def _moved(self, waiting: Mapping[str, JobRecord]) -> list[JobRecord]:
        """Queued jobs that have moved up because others left the queue."""
        if not any(record.state == "queued" for record in waiting.values()):
            return []
        places = await self._threads.call(self._store.queue_positions)
        return [
            replace(record, queue_position=places[record.id])
            for record in waiting.values()
            if record.state == "queued"
            and PLACES_TOLD >= places.get(record.id, PLACES_TOLD + 1) != record.queue_position
        ]

    def _hand_out(self, records: Iterable[JobRecord]) -> None:
        for subscription in list(self._subscriptions):
            for record in records:
                if subscription.wants(record):
                    subscription.pending.pop(record.id, None)
                    subscription.pending[record.id] = record
                    if len(subscription.pending) > subscription.limit:
                        del subscription.pending[next(iter(subscription.pending))]
                    subscription.wake.set()

    def add_chore(self, chore: Callable[[], Awaitable[Any]]) -> None:
        """Has something done at the start and every `chore_seconds`, as long as the queue is open."""
        self._chores.append(chore)

    async def _keep_house(self) -> None:
        while True:
            for chore in (self._delete_old, *self._chores):
                try:
                    with outages(self._file):
                        await chore()
                except (UnavailableError, DataLossError) as error:
                    log.warning("a chore failed; trying again later", error=error.message, reason=error.reason)
                except StemTubeError as error:
                    log.error("a chore was refused; trying again later", reason=error.reason, detail=error.message)
                except Exception:
                    log.exception("a chore failed; trying again later")
            await asyncio.sleep(self._chore_seconds)

    async def _delete_old(self) -> None:
        await self._threads.call(self._requests.forget_old, self._keep_seconds)
        while ids := await self._threads.call(self._store.old_ids, self._keep_seconds):
            await self._threads.call(self._client.delete_workflows, ids)
            await self._threads.call(self._store.delete, ids)
            log.info("old jobs removed", count=len(ids))


async def _take(subscription: _Subscription, seconds: float | None = None) -> list[JobRecord]:
    """The records that wait; none after so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await subscription.wake.wait()
    subscription.wake.clear()
    records = list(subscription.pending.values())
    subscription.pending.clear()
    return records


def _is_no_cancellation(line: logging.LogRecord) -> bool:
    """Leaves out what the engine says of each job that goes back to the queue."""
    return not str(line.msg).startswith("Asyncio task cancelled")


def error_detail(error: StemTubeError) -> dict[str, Any]:
    """An error as a job keeps it."""
    return {
        "code": int(error.code),
        "reason": error.reason,
        "message": error.message,
        "retryable": error.code in TRANSIENT,
    }


INTERNAL_ERROR = {
    "code": int(Code.INTERNAL),
    "reason": "INTERNAL",
    "message": "Something went wrong here; the server's log tells more.",
    "retryable": True,
}
WORKER_DIED = {
    "code": int(Code.ABORTED),
    "reason": "WORKER_DIED",
    "message": f"The work was given up: its worker died {MAX_DEATHS} times while doing it.",
    "retryable": False,
}
