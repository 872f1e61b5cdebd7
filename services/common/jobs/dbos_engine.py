"""The job engine, DBOS, behind the few verbs that jobs need. No other module imports it.

A job is one DBOS workflow with the job's id. DBOS hands workflows to the processes that take them from its queue, by
priority, and keeps the outcomes of their steps. All methods block unless they are coroutines.

DBOS' table `workflow_status` is private. Two statements use it, because DBOS has no calls for them: `move` writes to
it, `claimed` reads it. Nothing else in StemTube touches DBOS' tables.
"""

import asyncio
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy.engine import Connection

APPLICATION_VERSION = "1"
"""Constant, so that workers of a new version take the jobs of the old one."""
POLL_SECONDS = 0.2
END_SECONDS = 5
"""What DBOS gets for its own end beyond the grace of the jobs."""

Outcome = dict[str, Any]


class DbosEngine:
    """The engine of one queue.

    Args:
        database_url: SQLite or PostgreSQL, where the table of jobs is too.
        queue: its name.
    """

    def __init__(self, database_url: str, queue: str) -> None:
        self._url = database_url
        self._queue = queue
        self._client: DBOSClient

    def open(self) -> None:
        """Creates DBOS' tables where they are missing, and connects."""
        _quieten_log()
        DBOS.migrate(self._url)
        self._client = DBOSClient(
            system_database_url=self._url, application_name=self._queue, serializer=DBOSPortableJSONSerializer()
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.destroy()

    async def take(self, run: Callable[[str], Awaitable[None]], slots: int, room: Callable[[], int]) -> None:
        """Has this process take jobs from the queue.

        Args:
            run: does a job, by its id. A job is done when this returns; `CancelledError` leaves it as it is.
            slots: jobs at a time at most.
            room: how many jobs this process may run at present; asked before each take.
        """
        engine = DBOS(
            config=DBOSConfig(
                name=self._queue,
                system_database_url=self._url,
                application_version=APPLICATION_VERSION,
                executor_id=uuid.uuid4().hex,
                log_level="WARNING",
                serializer=DBOSPortableJSONSerializer(),
            )
        )

        async def job(job_id: str) -> None:
            await run(job_id)

        DBOS.workflow(name="job", max_recovery_attempts=None)(job)
        DBOS.launch()
        self._ask_before_taking(engine, room)
        await asyncio.to_thread(
            DBOS.register_queue,
            self._queue,
            worker_concurrency=slots,
            polling_interval_sec=POLL_SECONDS,
            on_conflict="always_update",
        )

    def _ask_before_taking(self, engine: DBOS, room: Callable[[], int]) -> None:
        """Limits what DBOS takes by `room`; DBOS' own limit is in the database, one for all workers."""
        take = engine._sys_db.start_queued_workflows

        def take_some(queue: Any, *arguments: Any, **options: Any) -> Any:
            if queue.name == self._queue:
                present = room()
                queue._worker_concurrency = min(queue._worker_concurrency or present, present)
            return take(queue, *arguments, **options)

        engine._sys_db.start_queued_workflows = take_some  # type: ignore[method-assign]

    async def stop_taking(
        self, grace_seconds: float, wait: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
    ) -> None:
        """Takes no more jobs, and returns once those in hand have ended.

        Args:
            grace_seconds: the longest time that `wait` takes.
            wait: lets the jobs in hand end by themselves.
            stop: ends the others.
        """
        loop = asyncio.get_running_loop()
        seconds = math.ceil(grace_seconds) + END_SECONDS
        end = loop.run_in_executor(
            ThreadPoolExecutor(1),
            lambda: DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=seconds),
        )
        await wait()
        # DBOS makes its own pool the loop's default one with each step, and is about to close it.
        loop.set_default_executor(ThreadPoolExecutor())
        await stop()
        await end
        loop.set_default_executor(ThreadPoolExecutor())

    def enqueue(self, connection: Connection, job_id: str, turn: int) -> None:
        """Queues a new job within the caller's transaction; the lowest turn runs first."""
        options: Any = {
            "workflow_name": "job",
            "queue_name": self._queue,
            "workflow_id": job_id,
            "app_version": APPLICATION_VERSION,
            "priority": turn,
        }
        self._client.enqueue_in_transaction(connection, options, job_id)

    def move(self, connection: Connection, job_id: str, turn: int) -> None:
        """Gives a queued job another turn within the caller's transaction."""
        status = _status_table(is_sqlite=connection.dialect.name == "sqlite")
        connection.execute(sa.update(status).where(status.c.workflow_uuid == job_id).values(priority=turn))

    def claimed(self) -> sa.Select[tuple[str, int]]:
        """A query for the `id` of each job that DBOS holds to be running, and the `moment` when it last touched it."""
        status = _status_table(is_sqlite=self._url.startswith("sqlite"))
        query: sa.Select[tuple[str, int]] = sa.select(
            status.c.workflow_uuid.label("id"), status.c.updated_at.label("moment")
        )
        return query.where(status.c.status == "PENDING")

    def resume(self, ids: Sequence[str]) -> None:
        """Hands out these jobs again, whatever became of their last attempts."""
        self._client.resume_workflows(list(ids), queue_name=self._queue)

    def cancel(self, job_id: str) -> None:
        """Never hands out this job."""
        self._client.cancel_workflow(job_id)

    def delete(self, ids: Sequence[str]) -> None:
        """Forgets jobs."""
        self._client.delete_workflows(list(ids))


async def run_step(name: str, work: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
    """Runs a step of the job that the calling task does, unless an earlier attempt has; its outcome, which is kept.

    `CancelledError` is not kept: the next attempt runs the step again.
    """
    outcome: Outcome = await DBOS.run_step_async({"name": name}, work)
    return outcome


def _status_table(*, is_sqlite: bool) -> sa.TableClause:
    return sa.table(
        "workflow_status",
        *map(sa.column, ("workflow_uuid", "status", "updated_at", "priority")),
        schema=None if is_sqlite else "dbos",
    )


def _quieten_log() -> None:
    log = logging.getLogger("dbos")
    log.setLevel(max(logging.WARNING, logging.getLogger().level))
    log.addHandler(logging.NullHandler())
    log.addFilter(_is_no_cancellation)


def _is_no_cancellation(line: logging.LogRecord) -> bool:
    """Leaves out what DBOS says of each job that goes back to the queue."""
    return not str(line.msg).startswith("Asyncio task cancelled")
