"""Copies the databases of running services, SQLite files or PostgreSQL, and restores them to stopped ones."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit

from cli.backup.sign_ins import EXPIRE_ONE_TIME_PASSWORDS, HAS_ONE_TIME_PASSWORDS, end_in_sqlite, without_emptied
from cli.backup.store_id import HAS_TABLE, SELECT_ID, set_in_sqlite, store_id_in_sqlite, update_of
from services.common.errors import InvalidInputError, PreconditionError, UnavailableError
from services.common.storage.sqlite_connection import open_sqlite
from services.common.storage.sqlite_faults import (
    check_file,
    damage,
    expect_content,
    has_log,
    sqlite_fault,
    system_fault,
)

TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"


class ServiceDatabase(Protocol):
    """A database that can be copied.

    Attributes:
        kind: SQLite or PostgreSQL; a copy can only be restored to a database of the same kind.
    """

    kind: str

    async def copy(self, path: Path) -> None:
        """Writes a consistent copy to a new file."""
        ...

    async def is_empty(self) -> bool:
        """Whether it is empty."""
        ...

    async def check(self) -> None:
        """Checks the database for damage.

        Raises:
            DataLossError: it is damaged (reason DATABASE_DAMAGED).
            UnavailableError: it cannot be used now.
        """
        ...

    async def check_copy(self, path: Path) -> None:
        """Checks a copy before it is restored.

        Raises:
            DataLossError: it is damaged (reason DATABASE_DAMAGED).
        """
        ...

    async def store_id(self) -> str:
        """The id of the library's object store, if the database is the library's; empty if it knows none.

        Raises:
            DataLossError: it is damaged (reason DATABASE_DAMAGED).
            UnavailableError: it cannot be used now.
        """
        ...

    async def put_back(self, path: Path, *, end_sign_ins: bool = False, store_id: str = "") -> None:
        """Replaces what is there by a copy; all of it or nothing.

        Args:
            path: the copy.
            end_sign_ins: it is auth's; remove sign-ins, so that everybody needs a password (see `sign_ins`).
            store_id: the object store's new id, in place of an earlier one.
        """
        ...


def service_database(url: str, default: Path) -> ServiceDatabase:
    """The database of a service.

    Args:
        url: its setting.
        default: the file that is used if the setting is empty.

    Raises:
        InvalidInputError: it is neither SQLite nor PostgreSQL (reason BAD_REQUEST).
    """
    if not url:
        return SqliteFile(default)
    scheme, _, rest = url.partition("://")
    match scheme.partition("+")[0]:
        case "sqlite":
            return SqliteFile(Path(unquote(rest.removeprefix("/").partition("?")[0])))
        case "postgresql" | "postgres":
            return PostgresDatabase(rest)
    raise InvalidInputError("a database's URL begins with sqlite:/// or postgresql://", "BAD_REQUEST")


class SqliteFile:
    """A SQLite file, copied with SQLite's own backup; this includes committed transactions and waits for none."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def copy(self, path: Path) -> None:
        """See `ServiceDatabase`.

        Raises:
            DataLossError: it is damaged (reason DATABASE_DAMAGED).
            UnavailableError: it is locked, cannot be read, or the copy cannot be written.
            PreconditionError: the database does not exist (reason NO_DATABASE).
        """
        await asyncio.to_thread(self._copy, path)

    def _copy(self, path: Path) -> None:
        if not self._path.exists() and not has_log(self._path):
            raise PreconditionError(f"There is no database {self._path}.", "NO_DATABASE")
        expect_content(self._path)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # it contains secrets
            # Opened read-only: otherwise closing it would write a log beside the file into it, even another file's log.
            with closing(_open(self._path, "ro")) as original, closing(_open(path, "rw")) as copy:
                # All pages at once: concurrent writes do not wait, because they go into the log beside the file.
                original.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file
                (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.Error as error:
            raise sqlite_fault(error, self._path) or error from error
        except OSError as error:
            raise system_fault(error, path) from error
        if found != "ok":
            raise damage(self._path, " ".join(found.split()))

    async def check(self) -> None:
        """See `ServiceDatabase`. A missing file is not damaged, because the service creates it at its first start."""
        if self._path.exists() or has_log(self._path):
            await asyncio.to_thread(check_file, self._path)

    async def is_empty(self) -> bool:
        """See `ServiceDatabase`.

        Raises:
            DataLossError: what is there is damaged (reason DATABASE_DAMAGED).
        """
        return await asyncio.to_thread(self._is_empty)

    def _is_empty(self) -> bool:
        if not self._path.exists() and not has_log(self._path):
            return True
        expect_content(self._path)
        try:
            with closing(_open(self._path, "ro")) as connection:
                return connection.execute("SELECT name FROM sqlite_master").fetchone() is None
        except sqlite3.Error as error:
            raise sqlite_fault(error, self._path) or error from error

    async def store_id(self) -> str:
        """See `ServiceDatabase`."""
        return "" if await self.is_empty() else await asyncio.to_thread(self._store_id)

    def _store_id(self) -> str:
        try:
            with closing(_open(self._path, "ro")) as connection:
                return store_id_in_sqlite(connection)
        except sqlite3.Error as error:
            raise sqlite_fault(error, self._path) or error from error

    async def check_copy(self, path: Path) -> None:
        """See `ServiceDatabase`."""
        await asyncio.to_thread(check_file, path, thorough=True)

    async def put_back(self, path: Path, *, end_sign_ins: bool = False, store_id: str = "") -> None:
        """See `ServiceDatabase`."""
        try:
            await asyncio.to_thread(self._put_back, path, end_sign_ins, store_id)
        except sqlite3.Error as error:
            raise sqlite_fault(error, self._path) or error from error
        except OSError as error:
            raise system_fault(error, self._path) from error

    def _put_back(self, path: Path, end_sign_ins: bool, store_id: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.restoring")
        draft.unlink(missing_ok=True)
        try:
            with path.open("rb") as source, open(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as target:
                shutil.copyfileobj(source, target)
                os.fsync(target.fileno())
            with closing(_open(draft, "rw")) as connection:
                if end_sign_ins:
                    end_in_sqlite(connection)
                if store_id:
                    set_in_sqlite(connection, store_id)
            # SQLite would take the old file's log for the new one's.
            for ending in ("-wal", "-shm"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)


def _open(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    return open_sqlite(path, mode, isolation_level="DEFERRED")


class PostgresDatabase:
    """A PostgreSQL database, copied with PostgreSQL's programs (postgresql-client of the server's version or later).

    Args:
        place: the part of its URL after `://`.
    """

    kind = "postgresql"

    def __init__(self, place: str) -> None:
        parts = urlsplit(f"//{place}")
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        host = parts.netloc.rpartition("@")[2]
        # The password is not in the URL, because other users of the machine can see command lines.
        self._url = f"postgresql://{user + '@' if user else ''}{host}{place.removeprefix(parts.netloc)}"
        self._password = unquote(password)

    async def copy(self, path: Path) -> None:
        """See `ServiceDatabase`."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        await self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={path}")

    async def check(self) -> None:
        """See `ServiceDatabase`. Does nothing: the server checks its own files."""

    async def is_empty(self) -> bool:
        """See `ServiceDatabase`."""
        return int(await self._ask(TABLES)) == 0

    async def check_copy(self, path: Path) -> None:
        """See `ServiceDatabase`."""
        await self._contents(path)

    async def store_id(self) -> str:
        """See `ServiceDatabase`."""
        return (await self._ask(SELECT_ID)).strip() if int(await self._ask(HAS_TABLE)) else ""

    async def put_back(self, path: Path, *, end_sign_ins: bool = False, store_id: str = "") -> None:
        """See `ServiceDatabase`."""
        options = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
        with tempfile.TemporaryDirectory() as folder:
            if end_sign_ins:
                kept = Path(folder) / "contents"
                kept.write_text(without_emptied(await self._contents(path)))
                options.append(f"--use-list={kept}")
            await self._run("pg_restore", *options, str(path))
        if end_sign_ins and int(await self._ask(HAS_ONE_TIME_PASSWORDS)):
            await self._ask(EXPIRE_ONE_TIME_PASSWORDS)
        if store_id and int(await self._ask(HAS_TABLE)):
            await self._ask(update_of(store_id))

    async def _contents(self, path: Path) -> str:
        return await self._run("pg_restore", "--list", str(path), connected=False)

    async def _ask(self, statement: str) -> str:
        return await self._run(
            "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", f"--command={statement}"
        )

    async def _run(self, program: str, *arguments: str, connected: bool = True) -> str:
        environment = {**os.environ, **({"PGPASSWORD": self._password} if self._password else {})}
        try:
            process = await asyncio.create_subprocess_exec(
                *(program, *([f"--dbname={self._url}"] if connected else []), *arguments),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError:
            raise PreconditionError(
                f"There is no program {program} here: install PostgreSQL's client programs.", "NO_PROGRAM"
            ) from None
        output, errors = await process.communicate()
        if process.returncode:
            detail = errors.decode(errors="replace").strip()
            raise UnavailableError(f"{program} failed: {detail}", "DATABASE_UNAVAILABLE")
        return output.decode()
