"""Damages SQLite files in ways that disks, people and interrupted copies do."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

PAGE_BYTES = 4096


def overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


def be_something_else(path: Path) -> None:
    path.write_bytes(b"This is a letter, and no database.\n" * 300)


def zero_page_in_the_middle(path: Path) -> None:
    """Overwrites a used page, because the content of free pages does not matter."""
    with closing(sqlite3.connect(path)) as connection:
        roots = [row[0] for row in connection.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 1")]
    with path.open("r+b") as file:
        file.seek((sorted(roots)[len(roots) // 2] - 1) * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))


def zero_first_page_of(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))


def zero_all_pages(path: Path) -> None:
    """Overwrites all pages except the first, which a connection reads when it opens the file."""
    with path.open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(bytes(path.stat().st_size - PAGE_BYTES))


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES + 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose_file_but_not_log(path: Path) -> None:
    _log_of_another(path)
    path.unlink()


def have_log_of_another(path: Path) -> None:
    """Puts the log of a file with the same tables and other rows beside the file; its pages fit."""
    _log_of_another(path)


def _log_of_another(path: Path) -> None:
    other, log = path.with_name("other"), path.with_name(f"{path.name}-wal")
    shutil.copy(path, other)
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE grown (name TEXT UNIQUE)")
        connection.executemany("INSERT INTO grown VALUES (?)", [(f"name {n}" * 20,) for n in range(200)])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the file has the tables, the log only later rows
        connection.executemany("INSERT INTO grown VALUES (?)", [(f"later {n}" * 20,) for n in range(200)])
        shutil.copy(other.with_name("other-wal"), log)
    for ending in ("", "-wal", "-shm"):
        other.with_name(f"other{ending}").unlink(missing_ok=True)


DAMAGE: dict[str, Callable[[Path], None]] = {
    damage.__name__: damage
    for damage in (
        overwrite_header,
        be_something_else,
        zero_page_in_the_middle,
        truncate,
        empty,
        lose_file_but_not_log,
        have_log_of_another,
    )
}
