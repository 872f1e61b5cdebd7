"""Statements about the id of the library's object store, in its database.

A restore sets a new id. With the old id, the disk that the backup was made from would be mistaken for the restored
store when it is mounted again, and it lacks everything that was added since.
"""

import sqlite3

TABLE = "store_identity"
SELECT_ID = f"SELECT store_id FROM {TABLE}"
HAS_TABLE = f"SELECT count(*) FROM information_schema.tables WHERE table_name = '{TABLE}'"
"""For PostgreSQL; earlier versions of the library had no such table."""


def store_id_in_sqlite(connection: sqlite3.Connection) -> str:
    """The id; empty if there is none."""
    row = connection.execute(SELECT_ID).fetchone() if _has_table(connection) else None
    return str(row[0]) if row else ""


def set_in_sqlite(connection: sqlite3.Connection, store_id: str) -> None:
    """Replaces the id, if there is one."""
    if _has_table(connection):
        with connection:
            connection.execute(update_of(store_id))


def update_of(store_id: str) -> str:
    """The statement that replaces the id, 32 hexadecimal digits, if there is one."""
    return f"UPDATE {TABLE} SET store_id = '{store_id}', confirmed = TRUE"


def _has_table(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone() is not None
