"""The database of a queue: connections, its clock, and the statements that change a job.

Every change of a job is one conditional statement, so only the process that holds the job's lease can make it. Times
are seconds since 1970 by the database's clock.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from services.common.jobs.records import COLUMNS, JobRecord
from services.common.jobs.tables import job_table
from services.common.storage.idle_transactions import limit_idle_transactions
from services.common.storage.sqlite_connection import open_sqlite
from services.common.storage.sqlite_files import set_up_sqlite

CONNECT_SECONDS = 5
IDLE_SECONDS = 10.0
"""Longest time without a statement in a transaction, which takes milliseconds here; see `limit_idle_transactions`."""
READING_CONNECTIONS = WRITING_CONNECTIONS = 5
OUTAGE_SECONDS, OUTAGE_POLL_SECONDS = 600.0, 0.5

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class JobDatabase:
    """Connections to a queue's database; those for reading are separate, so that reads never wait for blocked writes.

    Args:
        url: SQLite or PostgreSQL.
    """

    def __init__(self, url: str) -> None:
        self.engine = _create_engine(url, WRITING_CONNECTIONS)
        self.reading = _create_engine(url, READING_CONNECTIONS, only_reads=True)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.now: sa.ColumnElement[float] = (
            sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Float)
            if self.is_sqlite
            else sa.literal_column("extract(epoch from clock_timestamp())::double precision", sa.Float)
        )

    def close(self) -> None:
        """Closes the connections."""
        self.engine.dispose()
        self.reading.dispose()

    def change(self, job_id: str) -> sa.Update:
        """An update of a job, with a new version for its watchers."""
        return (
            sa.update(job_table)
            .where(job_table.c.id == job_id)
            .values(changed_at=self.now, version=job_table.c.version + 1)
        )

    def change_owned(self, job_id: str, lease: str) -> sa.Update:
        """As `change`, for the holder of the job's lease; it changes nothing once the lease is lost."""
        return self.change(job_id).where(job_table.c.lease == lease, job_table.c.state == "running")

    def lock_job(self, connection: Connection, job_id: str) -> None:
        """Keeps others from changing a job, or joining it, until the transaction ends."""
        if not self.is_sqlite:  # where a transaction that writes locks out all others
            connection.execute(sa.select(job_table.c.id).where(job_table.c.id == job_id).with_for_update())


def read_job(connection: Connection, job_id: str) -> JobRecord:
    """A job that is known to exist, without its place in the queue."""
    row = connection.execute(sa.select(*COLUMNS).where(job_table.c.id == job_id)).mappings().one()
    return JobRecord(**row)


def only_reads(method: Callable[P, T]) -> Callable[P, T]:
    """Marks a method of a store that only reads; `JobStoreThreads` runs it in a thread for readers."""
    method.only_reads = True  # type: ignore[attr-defined]
    return method


def retry_while_database_down(method: Callable[P, T]) -> Callable[P, T]:
    """Repeats a method until the database answers, so that a restart of the database loses no result of a worker."""

    @functools.wraps(method)
    def repeat(*arguments: P.args, **options: P.kwargs) -> T:
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                return method(*arguments, **options)
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("the database is away; trying again", error=type(error.orig).__name__)
                time.sleep(OUTAGE_POLL_SECONDS)

    return repeat


def _create_engine(url: str, connections: int, *, only_reads: bool = False) -> Engine:
    kept = min(connections, 2)
    if not url.startswith("sqlite"):
        engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=kept,
            max_overflow=connections - kept,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
        limit_idle_transactions(engine, IDLE_SECONDS)
        return engine
    path = Path(sa.make_url(url).database or "")
    engine = sa.create_engine(
        url,
        creator=lambda: open_sqlite(path, check_same_thread=False),
        pool_size=kept,
        max_overflow=connections - kept,
    )
    set_up_sqlite(engine)
    if not only_reads:
        return engine.execution_options(begin="BEGIN IMMEDIATE")

    @sa.event.listens_for(engine, "connect")
    def refuse_writes(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA query_only=ON")

    return engine
