"""Copies of a service's database, taken while it is used, and put back while it is not: SQLite files, PostgreSQL."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from services.common.errors import InvalidInputError, PreconditionError, UnavailableError

BUSY_SECONDS = 30.0
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"


class ServiceDatabase(Protocol):
    """A database that can be copied.

    Attributes:
        kind: copies of one kind cannot be put back into another.
    """

    kind: str

    async def copy(self, path: Path) -> None:
        """Writes a copy, consistent in itself, to a file that does not exist."""
        ...

    async def is_empty(self) -> bool:
        """Whether there is nothing in it yet."""
        ...

    async def put_back(self, path: Path) -> None:
        """Replaces what is there by a copy; all of it or nothing."""
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
    """A SQLite file; copied by SQLite's own backup, which waits for nobody's transaction but the last one written."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def copy(self, path: Path) -> None:
        """See `ServiceDatabase`."""
        await asyncio.to_thread(self._copy, path)

    def _copy(self, path: Path) -> None:
        if not self._path.exists():
            raise PreconditionError(f"There is no database {self._path}.", "NO_DATABASE")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # passwords' hashes and keys are in it
        with closing(self._open(self._path)) as original, closing(self._open(path)) as copy:
            # All pages at once: what is written meanwhile goes into the log beside the file, and holds nobody up.
            original.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file
            (found,) = copy.execute("PRAGMA quick_check").fetchone()
        if found != "ok":
            raise PreconditionError(f"The database {self._path} is damaged: {found}.", "DATABASE_DAMAGED")

    async def is_empty(self) -> bool:
        """See `ServiceDatabase`."""
        if not self._path.exists():
            return True
        with closing(self._open(self._path)) as connection:
            return connection.execute("SELECT name FROM sqlite_master").fetchone() is None

    async def put_back(self, path: Path) -> None:
        """See `ServiceDatabase`."""
        await asyncio.to_thread(self._put_back, path)

    def _put_back(self, path: Path) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.restoring")
        draft.unlink(missing_ok=True)
        with path.open("rb") as source, open(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as target:
            shutil.copyfileobj(source, target)
            os.fsync(target.fileno())
        # SQLite would take the old file's log for the new one's.
        for ending in ("-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        draft.replace(self._path)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, timeout=BUSY_SECONDS)


class PostgresDatabase:
    """A PostgreSQL database, copied by its own programs (package postgresql-client of the server's version or later).

    Args:
        place: what follows `://` in its URL.
    """

    kind = "postgresql"

    def __init__(self, place: str) -> None:
        parts = urlsplit(f"//{place}")
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        host = parts.netloc.rpartition("@")[2]
        # Other users of the machine see command lines.
        self._url = f"postgresql://{user + '@' if user else ''}{host}{place.removeprefix(parts.netloc)}"
        self._password = unquote(password)

    async def copy(self, path: Path) -> None:
        """See `ServiceDatabase`."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        await self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={path}")

    async def is_empty(self) -> bool:
        """See `ServiceDatabase`."""
        told = await self._run("psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--command={TABLES}")
        return int(told) == 0

    async def put_back(self, path: Path) -> None:
        """See `ServiceDatabase`."""
        whole = ("--single-transaction", "--exit-on-error")
        await self._run("pg_restore", "--clean", "--if-exists", "--no-owner", "--no-privileges", *whole, str(path))

    async def _run(self, program: str, *arguments: str) -> str:
        environment = {**os.environ, **({"PGPASSWORD": self._password} if self._password else {})}
        try:
            process = await asyncio.create_subprocess_exec(
                *(program, f"--dbname={self._url}", *arguments),
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
            told = errors.decode(errors="replace").strip()
            raise UnavailableError(f"{program} failed: {told}", "DATABASE_UNAVAILABLE")
        return output.decode()
