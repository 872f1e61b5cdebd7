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
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from services.common.errors import Code, NotFoundError, StemTubeError, StoppedError
from services.common.job_store import JobRecord, JobStore

log = structlog.get_logger(__name__)

APPLICATION_VERSION = "1"
QUEUE_POLL_SECONDS = 0.2
BEAT_SECONDS = 1.0
MAX_DEATHS = 3
MAX_RETRIES = 4
RETRY_SECONDS = 1.0
REPORT_SECONDS = 0.1
WATCH_POLL_SECONDS = 0.1
INTERACTIVE, BATCH = 0, 1
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

        Steps that run side by side must be started in the same order each time.
        """

        async def outcome() -> dict[str, Any]:
            try:
                return {"result": await work()}
            except StoppedError:
                raise asyncio.CancelledError from None
            except StemTubeError as error:
                return {"error": error_detail(error)}

        kept: dict[str, Any] = await DBOS.run_step_async({"name": name}, outcome)
        if "error" in kept:
            raise KeptError(kept["error"])
        result: dict[str, Any] = kept["result"]
        return result


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


class JobQueue:
    """One service's jobs.

    Args:
        database_url: SQLite or PostgreSQL, the service's own.
        service: its name.
        handlers: by kind of job, for a process that works.
        slots: jobs that run at a time in this process; 0 for one that only submits and watches.
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
        keep_seconds: float = 7 * 86400.0,
        lease_seconds: float = 10.0,
        chore_seconds: float = 3600.0,
    ) -> None:
        self._url = database_url
        self._service = service
        self._queue = f"{service}-jobs"
        self._handlers = handlers or {}
        self._slots = slots
        self._keep_seconds = keep_seconds
        self._lease_seconds = lease_seconds
        self._chore_seconds = chore_seconds
        self._chores: list[Callable[[], Awaitable[Any]]] = []
        self._store = JobStore(database_url)
        self._client: DBOSClient
        self._active: dict[str, tuple[JobContext, asyncio.Task[Any]]] = {}
        self._subscriptions: set[_Subscription] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._poke = asyncio.Event()

    async def start(self) -> None:
        """Prepares the database and, in a process that works, begins to take jobs."""
        engine_log = logging.getLogger("dbos")
        engine_log.setLevel(max(logging.WARNING, logging.getLogger().level))
        engine_log.addHandler(logging.NullHandler())
        await asyncio.to_thread(self._store.create_tables)
        await asyncio.to_thread(DBOS.migrate, self._url)
        self._client = await asyncio.to_thread(
            lambda: DBOSClient(
                system_database_url=self._url, application_name=self._queue, serializer=DBOSPortableJSONSerializer()
            )
        )
        if self._slots:
            await self._start_engine()
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
        DBOS(config=config)

        async def job(job_id: str) -> None:
            await self._run(job_id)

        DBOS.workflow(name="job", max_recovery_attempts=None)(job)
        DBOS.launch()
        await asyncio.to_thread(
            DBOS.register_queue,
            self._queue,
            worker_concurrency=self._slots,
            polling_interval_sec=QUEUE_POLL_SECONDS,
            on_conflict="always_update",
        )

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Takes no more jobs, lets those in hand end within `grace_seconds`, and gives the others back to the queue."""
        if self._slots:
            engine_end = asyncio.create_task(
                asyncio.to_thread(
                    DBOS.destroy, destroy_registry=True, workflow_completion_timeout_sec=math.ceil(grace_seconds) + 5
                )
            )
            running = [task for _, task in self._active.values()]
            if running and grace_seconds:
                await asyncio.wait(running, timeout=grace_seconds)
            await asyncio.gather(*(self._give_back(context) for context, _ in list(self._active.values())))
            await self._end_tasks()
            await engine_end
            # The engine made its own pool the loop's default one, and has just closed it.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        await self._end_tasks()
        await asyncio.to_thread(self._client.destroy)
        self._store.close()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _give_back(self, context: JobContext) -> None:
        if await asyncio.to_thread(self._store.release, context.job_id, context.lease):
            await asyncio.to_thread(self._client.resume_workflow, context.job_id, queue_name=self._queue)
            log.info("job given back", job=context.job_id)
        if context.job_id in self._active:
            self._stop(context.job_id)

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
        """

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
            latest = await asyncio.to_thread(self._store.latest, key)
            if latest and latest.state == "succeeded" and not await reusable(latest):
                outdated = latest.id
        record = await asyncio.to_thread(
            self._store.submit,
            key=key,
            request_id=request_id or uuid.uuid4().hex,
            kind=kind,
            user=user,
            subject=subject,
            payload=payload,
            lane=priority,
            enqueue=enqueue,
            outdated=outdated,
        )
        self._poke.set()
        return record

    async def get(self, job_id: str) -> JobRecord:
        """A job as it is now.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        record = await asyncio.to_thread(self._store.get, job_id)
        if record is None:
            raise NotFoundError("There is no such job.", "NO_SUCH_JOB")
        return record

    async def outputs(self, job_id: str) -> dict[str, Any]:
        """The parts of a job's result that are ready, by name."""
        return await asyncio.to_thread(self._store.outputs, job_id)

    async def jobs_of(
        self, user: str, *, before: tuple[float, str] | None = None, limit: int = 50, subject: str = ""
    ) -> list[JobRecord]:
        """A user's jobs, newest first; those before (creation time, id), of one subject if given."""
        return await asyncio.to_thread(self._store.jobs_of, user, before, limit, subject)

    async def unfinished(self, user: str | None = None) -> list[JobRecord]:
        """Unfinished jobs (of one user), oldest first."""
        return await asyncio.to_thread(self._store.unfinished, user)

    async def cancel(self, job_id: str, request_id: str | None = None) -> None:
        """Withdraws a request (None: all); the job stops when no other waits for it. Idempotent.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        await self.get(job_id)
        if await asyncio.to_thread(self._store.withdraw, job_id, request_id):
            await asyncio.to_thread(self._client.cancel_workflow, job_id)
            if job_id in self._active:
                self._stop(job_id)
            log.info("job cancelled", job=job_id)
        self._poke.set()

    async def watch(self, job_id: str) -> AsyncGenerator[JobRecord, None]:
        """The job as it is, then after each change (the newest, where they come fast), up to its end.

        Raises:
            NotFoundError: no such job (reason NO_SUCH_JOB).
        """
        with self._subscribed(lambda record: record.id == job_id, limit=1) as changes:
            record = await self.get(job_id)
            yield record
            while not record.finished:
                newer = await _take(changes)
                if newer and newer[0].version > record.version:
                    record = newer[0]
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
        lease = uuid.uuid4().hex
        record = await asyncio.to_thread(self._store.begin, job_id, lease)
        if record is None:
            return
        context = JobContext(record, lease, self._store)
        structlog.contextvars.bind_contextvars(job=job_id, user=record.user)
        task = asyncio.current_task()
        assert task is not None
        self._active[job_id] = (context, task)
        log.info("job started", kind=record.kind, attempt=record.attempts)
        try:
            state, result, error = await self._outcome(context, self._handlers[record.kind])
            await self._write_report(context)
            finished = await asyncio.to_thread(self._store.finish, job_id, lease, state, result, error)
            log.info("job ended", state=state if finished else "lease lost", error=error and error["message"])
        finally:
            context.stop()
            if self._active.get(job_id, (None,))[0] is context:
                del self._active[job_id]
            self._poke.set()

    async def _outcome(self, context: JobContext, handler: Handler) -> tuple[Any, Any, Any]:
        for retry in range(MAX_RETRIES + 1):
            try:
                return "succeeded", await handler(context), None
            except StoppedError:
                raise asyncio.CancelledError from None
            except StemTubeError as error:
                tries = MAX_DEATHS - 1 if error.reason == "WORKER_DIED" else MAX_RETRIES
                if error.code not in TRANSIENT or retry >= tries:
                    return "failed", None, error_detail(error)
                delay = RETRY_SECONDS * 2**retry
                log.warning("job will be tried again", error=error.message, reason=error.reason, seconds=delay)
                await asyncio.sleep(delay)
                await asyncio.to_thread(self._store.try_again, context.job_id, context.lease)
            except DBAPIError as error:
                # The engine could not note a step down. What was done since the last one is done again.
                log.warning("the database is away; the job goes back to the queue", error=type(error.orig).__name__)
                await self._give_back(context)
                raise asyncio.CancelledError from None
            except Exception:
                log.exception("job failed")
                return "failed", None, INTERNAL_ERROR
        raise AssertionError("unreachable")

    async def _beat(self) -> None:
        """Keeps the leases of this worker's jobs, stops those that were cancelled or taken, takes over silent ones."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                leases = [(context.job_id, context.lease) for context, _ in self._active.values()]
                held = await asyncio.to_thread(self._store.beat, leases) if leases else set()
                for job_id, lease in leases:
                    current = self._active.get(job_id)
                    if (job_id, lease) not in held and current and current[0].lease == lease:
                        log.warning("job is no longer ours", job=job_id)
                        self._stop(job_id)
                for record in await asyncio.to_thread(self._store.take_silent, self._lease_seconds):
                    await self._take_over(record)
                await asyncio.to_thread(self._resume_forgotten)
            except DBAPIError as error:
                log.warning("cannot keep the leases; trying again", error=type(error.orig).__name__)
            except Exception:
                log.exception("cannot keep the leases; trying again")

    def _stop(self, job_id: str) -> None:
        context, task = self._active[job_id]
        context.stop()
        task.cancel()

    def _resume_forgotten(self) -> None:
        """Resumes jobs that wait while the engine holds them to be running: whoever took them died before it began."""
        waiting = self._store.queued_ids(self._lease_seconds)
        if not waiting:
            return
        pending = self._client.list_workflows(
            workflow_ids=waiting, status="PENDING", load_input=False, load_output=False
        )
        for status in pending:
            if time.time() - (status.updated_at or 0) / 1000 > self._lease_seconds:
                log.warning("job resumed", job=status.workflow_id)
                self._client.resume_workflow(status.workflow_id, queue_name=self._queue)

    async def _take_over(self, record: JobRecord) -> None:
        if record.deaths >= MAX_DEATHS:
            if await asyncio.to_thread(self._store.give_up, record.id, WORKER_DIED):
                await asyncio.to_thread(self._client.cancel_workflow, record.id)
                log.error("job given up: its worker died each time", job=record.id, attempts=record.attempts)
        else:
            log.warning("job taken over from a silent worker", job=record.id, attempts=record.attempts)
            await asyncio.to_thread(self._client.resume_workflow, record.id, queue_name=self._queue)

    async def _write_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            for context, _ in list(self._active.values()):
                await self._write_report(context)

    async def _write_report(self, context: JobContext) -> None:
        async with context.writing:  # one after another, or an older report could overwrite a newer one
            news = context.take_news()
            if news is None:
                return
            try:
                await asyncio.to_thread(self._store.report, context.job_id, context.lease, *news)
                self._poke.set()
            except DBAPIError as error:
                log.warning("progress could not be noted", error=type(error.orig).__name__)

    # ---- watchers

    async def _publish_changes(self) -> None:
        """Hands changes in the database to those who watch here; one query for all of them."""
        moment: float | None = None
        versions: dict[str, int] = {}
        while True:
            if not self._subscriptions:
                moment = None
                self._poke.clear()
                await self._poke.wait()
            try:
                moment, records = await asyncio.to_thread(self._store.changed_since, moment)
            except DBAPIError as error:
                log.warning("cannot look for changes; trying again", error=type(error.orig).__name__)
                await asyncio.sleep(1.0)
                continue
            fresh = [record for record in records if versions.get(record.id) != record.version]
            versions = {record.id: record.version for record in records}
            for subscription in list(self._subscriptions):
                for record in fresh:
                    if subscription.wants(record):
                        subscription.pending.pop(record.id, None)
                        subscription.pending[record.id] = record
                        if len(subscription.pending) > subscription.limit:
                            del subscription.pending[next(iter(subscription.pending))]
                        subscription.wake.set()
            self._poke.clear()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: Python 3.11's swallows a cancellation that arrives together with the poke.
                async with asyncio.timeout(WATCH_POLL_SECONDS):
                    await self._poke.wait()

    def add_chore(self, chore: Callable[[], Awaitable[Any]]) -> None:
        """Has something done at the start and every `chore_seconds`, as long as the queue is open."""
        self._chores.append(chore)

    async def _keep_house(self) -> None:
        while True:
            for chore in (self._delete_old, *self._chores):
                try:
                    await chore()
                except Exception:
                    log.exception("a chore failed; trying again later")
            await asyncio.sleep(self._chore_seconds)

    async def _delete_old(self) -> None:
        ids = await asyncio.to_thread(self._store.delete_finished, self._keep_seconds)
        if ids:
            await asyncio.to_thread(self._client.delete_workflows, ids)
            log.info("old jobs removed", count=len(ids))


async def _take(subscription: _Subscription) -> list[JobRecord]:
    await subscription.wake.wait()
    subscription.wake.clear()
    records = list(subscription.pending.values())
    subscription.pending.clear()
    return records


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
