"""Distinguishes faults of a database from faults of a query, by SQLite's and PostgreSQL's errors."""

import sqlite3
from pathlib import Path

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.common.errors import StemTubeError
from services.common.storage.idle_transactions import ENDED
from services.common.storage.sqlite_faults import (
    AWAY,
    DAMAGED,
    DISK_FULL,
    NO_PERMISSION,
    READ_ONLY,
    fault,
    sqlite_reason,
)

_POSTGRESQL_REASONS = {
    # SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html
    "XX001": DAMAGED,
    "XX002": DAMAGED,
    "53100": DISK_FULL,
    "25006": READ_ONLY,
    ENDED: AWAY,
    "42501": NO_PERMISSION,
}


def fault_of(error: Exception, path: Path | None = None) -> StemTubeError | None:
    """The domain error for an error of a database driver or SQLAlchemy; None if the query is at fault.

    Args:
        error: as it was raised.
        path: the SQLite file, for the message.
    """
    reason = _reason(error, path)
    if reason is None:
        return None
    return fault(reason, path, str(getattr(error, "orig", None) or error))


def _reason(error: Exception, path: Path | None) -> str | None:
    if isinstance(error, PoolTimeoutError):
        return AWAY
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return sqlite_reason(original, path)
    if isinstance(original, psycopg.Error):
        known = _POSTGRESQL_REASONS.get(original.sqlstate or "")
        if known:
            return known
        if isinstance(original, psycopg.OperationalError):
            return AWAY
    return AWAY if isinstance(error, DBAPIError) and error.connection_invalidated else None
