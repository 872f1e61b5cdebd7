"""A service's own database: connections, sessions, UTC times, and migrations at start.

Three lines give a service its database, a SQLite file or PostgreSQL:

    await migrate(url, "services.download")  # runs services/download/migrations
    async with Database(url) as database, database.write() as session:
        session.add(track)
"""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import psycopg
import structlog
from alembic import command, context
from alembic.config import Config
from alembic.util.exc import CommandError
from filelock import FileLock, Timeout
from pydantic import AfterValidator, SecretStr
from sqlalchemy import (
    URL,
    Connection,
    DateTime,
    Dialect,
    Float,
    MetaData,
    create_engine,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeDecorator, TypeEngine

from services.common.errors import (
    DataLossError,
    InvalidInputError,
    PreconditionError,
    UnavailableError,
)
from services.common.storage import damaged_files
from services.common.storage.database_faults import fault_of
from services.common.storage.idle_transactions import limit_idle_transactions
from services.common.storage.sqlite_connection import open_sqlite
from services.common.storage.sqlite_faults import without_path
from services.common.storage.sqlite_files import checked_file, connect, prepare_file, set_up_sqlite

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10
MIGRATION_LOCK_SECONDS = 120
IDLE_SECONDS = 300.0
"""Longest time without a statement in a transaction, which may wait for the object store meanwhile."""
READING_POOL: dict[str, Any] = {"pool_size": 4, "max_overflow": 4}
WRITING_POOL: dict[str, Any] = {"pool_size": 4, "max_overflow": 3}
"""Connections of a `Database`, 15 at most. Writers may wait for each other; readers never wait for a writer."""
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names of constraints, for `MetaData(naming_convention=NAMING)`: migrations can only change named constraints."""


class UtcDateTime(TypeDecorator[datetime]):
    """A time: accepts only aware datetimes and returns them in UTC, on databases with and without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The stored form of `value`."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time that was stored as `value`."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


COLUMN_TYPES: dict[Any, TypeEngine[Any]] = {datetime: UtcDateTime(), float: Float()}
"""Column types by annotation, for `type_annotation_map` of a service's declarative base."""


def parse_url(url: str) -> URL:
    """The URL of a SQLite file or a PostgreSQL database, with the driver that StemTube uses (aiosqlite, psycopg 3).

    Args:
        url: `sqlite:///file`, `sqlite:////absolute/file` or `postgresql://…`, with or without a driver's name.

    Raises:
        InvalidInputError: it is not such a URL; the message does not repeat it, because it may contain a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInputError("must be a URL such as sqlite:///file or postgresql://user@host/name") from None
    match parsed.drivername.partition("+")[0]:
        case "sqlite" if parsed.database and parsed.database != ":memory:" and "uri" not in parsed.query:
            return parsed.set(drivername="sqlite+aiosqlite")
        case "sqlite":
            raise InvalidInputError("a SQLite database needs a file: sqlite:///file")
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
    raise InvalidInputError("must be a URL that begins with sqlite:/// or postgresql://")


def _is_database_url(url: SecretStr) -> SecretStr:
    if url.get_secret_value():
        parse_url(url.get_secret_value())
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_is_database_url)]
"""A setting: a URL for `parse_url`, or empty."""


class Database:
    """Sessions on one database; an asynchronous context that closes its connections at the end.

    Args:
        url: see `parse_url`.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        self._file = prepare_file(parsed) if self._sqlite else None
        self.engine = self._open(parsed, READING_POOL)
        self._writing_engine = self._open(parsed, WRITING_POOL)
        self._readers = async_sessionmaker(self.engine, expire_on_commit=False)
        writing = self._writing_engine.execution_options(begin="BEGIN IMMEDIATE")
        self._writers = async_sessionmaker(writing if self._sqlite else self._writing_engine, expire_on_commit=False)

    def _open(self, url: URL, pool: dict[str, Any]) -> AsyncEngine:
        options = _engine_options(url)
        if self._sqlite:
            options["connect_args"]["async_creator_fn"] = connect
        engine = create_async_engine(url, pool_pre_ping=True, **pool, **options)
        if self._sqlite:
            set_up_sqlite(engine.sync_engine)
        else:
            limit_idle_transactions(engine.sync_engine, IDLE_SECONDS)
        return engine

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, in parallel with others; it never waits for one that writes.

        Raises:
            UnavailableError, DataLossError: see `outages`.
        """
        with outages(self._file):
            async with self._readers() as session:
                yield session

    @asynccontextmanager
    async def write(self, lock: str = "") -> AsyncIterator[AsyncSession]:
        """A session that is committed at the end of the block, or rolled back if an exception leaves it.

        On SQLite only one session writes at a time. On PostgreSQL several do: read rows on which a decision depends
        `with_for_update`. Blocks with the same `lock` run one after another.

        Args:
            lock: a name; blocks with this name never run at the same time, in any process.

        Raises:
            UnavailableError, DataLossError: see `outages`.
        """
        with outages(self._file):
            async with self._writers.begin() as session:
                if lock and not self._sqlite:
                    await session.execute(select(func.pg_advisory_xact_lock(_lock_number(lock))))
                yield session

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()
        await self._writing_engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()


async def migrate(url: str, package: str, tables: str = "") -> None:
    """Brings a database to the newest schema; several processes may do so at once.

    All steps are one transaction: a migration that fails or is killed leaves the schema as it was.

    Args:
        url: see `parse_url`.
        package: the service's package; its folder `migrations` has `env.py`, which calls `run_migrations`, and
            `versions/`.
        tables: a name for the schema; default: the name of the service. The table with the schema's version is named
            after it, so that several schemas can share a database.

    Raises:
        UnavailableError: the database does not answer, or another process keeps migrating it.
        DataLossError: the SQLite file is damaged (reason DATABASE_DAMAGED); nothing is changed then.
        PreconditionError: the database belongs to a newer version of StemTube (reason DATABASE_TOO_NEW).
    """
    await asyncio.to_thread(_migrate, parse_url(url), package, tables or package.rpartition(".")[2])


def run_migrations(metadata: MetaData) -> None:
    """Runs a service's migrations on the connection from `migrate`; called in `migrations/env.py`.

    Args:
        metadata: the tables after all migrations.
    """
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        target_metadata=metadata,
        version_table=attributes["version_table"],
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


# Alembic keeps the present migration in a global of its module `context`.
_alembic = threading.Lock()


def _migrate(url: URL, package: str, tables: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(files(package) / "migrations").replace("%", "%%"))
    config.attributes["version_table"] = f"{tables}_schema_version"
    file = checked_file(url) if url.get_backend_name() == "sqlite" else None
    with _alembic, outages(file, for_operator=True), _migrating(url, tables) as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            if "Can't locate revision" not in str(error):
                raise
            raise PreconditionError(
                f"The database ({tables}) was made by a newer version of StemTube: run that one.", "DATABASE_TOO_NEW"
            ) from error


@contextmanager
def _migrating(url: URL, tables: str) -> Iterator[Connection]:
    """A connection in a transaction; no other process can migrate until it ends."""
    if url.get_backend_name() == "postgresql":
        engine = create_engine(url, poolclass=NullPool, **_engine_options(url))
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_SECONDS}s'")
            connection.execute(select(func.pg_advisory_xact_lock(_lock_number(f"migrate {tables}"))))
            yield connection
        return
    path = prepare_file(url)
    engine = create_engine(url.set(drivername="sqlite"), poolclass=NullPool, creator=lambda: open_sqlite(path))
    # Foreign keys are off, because a table is changed by copying and dropping it, and with them dropping a table would
    # delete the rows that refer to it.
    set_up_sqlite(engine, foreign_keys=False)
    try:
        with (
            FileLock(f"{path}.lock", timeout=MIGRATION_LOCK_SECONDS),
            engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection,
        ):
            yield connection
            if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise RuntimeError(f"a migration left a row of {broken[0]} that refers to none of {broken[2]}")
    except Timeout as error:
        raise UnavailableError(f"Another process keeps migrating the database ({tables}).") from error


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        # `set_up_sqlite` begins transactions, not Python's driver.
        return {"connect_args": {"isolation_level": None}}
    return {"connect_args": {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}}


def _lock_number(name: str) -> int:
    """The 64-bit number of an advisory lock."""
    return int.from_bytes(hashlib.sha256(f"stemtube {name}".encode()).digest()[:8], signed=True)


@contextmanager
def outages(file: Path | None = None, *, for_operator: bool = False) -> Iterator[None]:
    """Raises faults of the database as domain errors; errors of our code pass unchanged.

    Args:
        file: the SQLite file, for the log.
        for_operator: whether the error's message names the file, too.

    Raises:
        UnavailableError: the database cannot be used now but is not damaged; trying again can help (reason
            DATABASE_UNAVAILABLE, DATABASE_LOCKED, DATABASE_DISK_FULL, DATABASE_READ_ONLY or DATABASE_NO_PERMISSION).
        DataLossError: the database is damaged (reason DATABASE_DAMAGED).
        InvalidInputError: a text contains NUL, which PostgreSQL cannot store (reason BAD_REQUEST).
    """
    try:
        yield
    except (DBAPIError, PoolTimeoutError, sqlite3.Error) as error:
        if isinstance(getattr(error, "orig", None), psycopg.DataError) and "NUL" in str(error):
            raise InvalidInputError("A text must not have NUL characters.", "BAD_REQUEST") from None
        fault = fault_of(error, file)
        if fault is None:
            raise
        detail = str(getattr(error, "orig", None) or error)
        if isinstance(fault, DataLossError) and file:
            damaged_files.note(file, fault)
        elif isinstance(fault, DataLossError):
            log.error("database damaged", reason=fault.reason, detail=fault.message)
        else:
            log.warning("database outage", reason=fault.reason, detail=detail, file=str(file or ""))
        raise fault if for_operator else without_path(fault) from error
