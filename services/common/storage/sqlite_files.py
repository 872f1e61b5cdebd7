"""Creates and sets up files of SQLite databases."""

import asyncio
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, Engine, ExceptionContext, event, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from services.common.errors import DataLossError, StemTubeError
from services.common.storage import damaged_files
from services.common.storage.sqlite_connection import open_sqlite
from services.common.storage.sqlite_faults import (
    check_file,
    damage,
    expect_access,
    has_log,
    sqlite_fault,
    system_fault,
)


def sqlite_file(url: str) -> Path | None:
    """The file of a database's URL; None for PostgreSQL."""
    parsed = make_url(url)
    return Path(parsed.database or "").absolute() if parsed.get_backend_name() == "sqlite" else None


def checked_file(url: URL) -> Path:
    """The file of a SQLite database. Creates it if it is missing, else checks it. Blocks; see `check_file`."""
    path = prepare_file(url)
    check_file(path)
    damaged_files.forget(path)
    return path


def prepare_file(url: URL) -> Path:
    """Creates the file of a SQLite database if it is missing, readable by its owner only: it will contain secrets.

    The file is never empty, even for a moment, because an empty file counts as damaged.

    Raises:
        DataLossError: the file is missing but its log is there (reason DATABASE_DAMAGED).
        UnavailableError: it cannot be opened or created.
    """
    path = Path(url.database or "").absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_file(path)
        # Only SQLite may open the file: closing any other descriptor of it would drop the locks of this process's
        # connections, and the next process that closes a connection would delete the log while it is in use here.
        expect_access(path)
    except StemTubeError:
        raise
    except OSError as error:
        raise system_fault(error, path) from error
    except sqlite3.Error as error:
        raise sqlite_fault(error, path) or error from error
    return path


def _make_file(path: Path) -> None:
    if has_log(path):
        raise damage(path, "the file is missing, and its log is there")
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(open_sqlite(draft)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        # Unlike a rename, a link does not replace the file of a faster process.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def set_up_sqlite(engine: Engine, foreign_keys: bool = True) -> None:
    """Sets pragmas on each new connection, and begins transactions with the statement in the execution option `begin`.

    When a statement finds damage in the file, the file is marked in `damaged_files`.
    """
    path = Path(engine.url.database or "").absolute()

    @event.listens_for(engine, "handle_error")
    def note_damage(context: ExceptionContext) -> None:
        error = context.original_exception
        fault = sqlite_fault(error, path) if isinstance(error, sqlite3.Error) else None
        if isinstance(fault, DataLossError):
            damaged_files.note(path, fault)

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


class _SqliteConnection(aiosqlite.Connection):
    """A connection that can be stopped more than once.

    SQLAlchemy may stop a connection twice, if a call is cancelled while its connection is being closed. The second stop
    would wait forever for a thread that has ended, and at its end the event loop would wait for the second stop.
    """

    _stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        """Ends the thread; the first call returns a future of its end."""
        if self._stopped:
            return None
        self._stopped = True
        return super().stop()


def connect(path: str, **options: Any) -> _SqliteConnection:
    """As `aiosqlite.connect`; the thread does not outlive the process."""
    connection = _SqliteConnection(lambda: open_sqlite(Path(path), **options), iter_chunk_size=64)
    connection._thread.daemon = True
    return connection
