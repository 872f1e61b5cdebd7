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
    """The file of a database's URL; None if it is PostgreSQL's."""
    parsed = make_url(url)
    return Path(parsed.database or "").absolute() if parsed.get_backend_name() == "sqlite" else None


def checked_file(url: URL) -> Path:
    """The file of a SQLite database, made if it is missing, looked through if not. Blocks; see `check_file`."""
    path = prepare_file(url)
    check_file(path)
    damaged_files.forget(path)
    return path


def prepare_file(url: URL) -> Path:
    """Makes the file of a SQLite database, for its owner only: passwords' hashes and keys will be in it.

    It never is empty, not for a moment: a file that is empty has lost what was in it.

    Raises:
        DataLossError: the file is missing, and a log of it is there (reason DATABASE_DAMAGED).
        UnavailableError: it cannot be opened or made.
    """
    path = Path(url.database or "").absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_file(path)
        # Never opened but by SQLite: closing any descriptor of the file would drop the locks of this process's own
        # connections, and the next process that closes one would delete the log while it is written here.
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
        # A link, unlike a rename, leaves the file of a faster process in place.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def set_up_sqlite(engine: Engine, foreign_keys: bool = True) -> None:
    """Pragmas for each new connection, and transactions that begin as the execution option `begin` says.

    The first statement that meets damage in the file has readiness know of it, see `damaged_files`.
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
    """Can be stopped more than once.

    SQLAlchemy stops the connection of a call that is cancelled twice while it closes it. The second stop would wait for
    a thread that has ended, for ever, and the loop at its end for the second stop.
    """

    _stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        """Has the thread end; a future of that at the first time."""
        if self._stopped:
            return None
        self._stopped = True
        return super().stop()


def connect(path: str, **options: Any) -> _SqliteConnection:
    """As `aiosqlite.connect`; the thread does not outlive the process."""
    connection = _SqliteConnection(lambda: open_sqlite(Path(path), **options), iter_chunk_size=64)
    connection._thread.daemon = True
    return connection
