"""Opens files of SQLite databases: every connection waits equally long for a lock, and none makes a file."""

import sqlite3
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

SQLITE_BUSY_SECONDS = 15.0


def open_sqlite(path: Path, mode: Literal["ro", "rw"] = "rw", **options: Any) -> sqlite3.Connection:
    """A connection to a SQLite file that is there.

    Args:
        path: the file.
        mode: `ro` only reads.
        options: of `sqlite3.connect`; without `isolation_level`, transactions begin where the caller says so.
    """
    connection: sqlite3.Connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        **{"isolation_level": None, "timeout": SQLITE_BUSY_SECONDS, **options},
    )
    return connection
