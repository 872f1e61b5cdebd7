"""Faults of a SQLite file: damaged, locked, disk full, read-only, not permitted, or not reachable.

Each has its own reason and a message with advice for the operator. Wrong statements are not included.
"""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from services.common.errors import DataLossError, StemTubeError, UnavailableError
from services.common.storage.sqlite_connection import open_sqlite

DAMAGED, LOCKED, DISK_FULL = "DATABASE_DAMAGED", "DATABASE_LOCKED", "DATABASE_DISK_FULL"
READ_ONLY, NO_PERMISSION, AWAY = "DATABASE_READ_ONLY", "DATABASE_NO_PERMISSION", "DATABASE_UNAVAILABLE"
OUTAGES = frozenset((LOCKED, DISK_FULL, READ_ONLY, NO_PERMISSION, AWAY))
"""Reasons of databases that are not damaged and cannot be used for now."""
RESTORE = "`stemtube admin restore FOLDER --force` puts a backup back"

_WORDS = {
    LOCKED: "is locked by another process",
    DISK_FULL: "cannot be written: the disk is full",
    READ_ONLY: "cannot be written: it is on a read-only file system, or read-only itself",
    NO_PERMISSION: "cannot be opened: this process has no permission to read and write it",
    AWAY: "does not answer now",
}
_CORRUPT_FILE_SYSTEM = sqlite3.SQLITE_IOERR | 33 << 8
_SQLITE_REASONS = {
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_FULL: DISK_FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: NO_PERMISSION,
    sqlite3.SQLITE_AUTH: NO_PERMISSION,
    sqlite3.SQLITE_IOERR: AWAY,
    sqlite3.SQLITE_CANTOPEN: AWAY,
}
_SYSTEM_REASONS = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
}


def sqlite_fault(error: sqlite3.Error, path: Path | None = None) -> StemTubeError | None:
    """The domain error for an error of SQLite; None if the statement is wrong, not the file.

    Args:
        error: as it was raised.
        path: the file, for the message.
    """
    reason = sqlite_reason(error, path)
    return None if reason is None else fault(reason, path, str(error))


def fault(reason: str, path: Path | None, detail: str) -> StemTubeError:
    """The domain error with a reason."""
    return damage(path, detail) if reason == DAMAGED else outage(reason, path)


def system_fault(error: OSError, path: Path) -> StemTubeError:
    """The domain error for a system error when a database's file is opened or made."""
    reason = _SYSTEM_REASONS.get(error.errno or 0)
    if reason is not None:
        return outage(reason, path)
    return UnavailableError(f"The database {path} cannot be opened: {error.strerror or error}.", AWAY)


def damage(path: Path | None, detail: str) -> DataLossError:
    """The error of a damaged database; with a file, it also says how to restore it."""
    if path is None:
        return DataLossError("A database is damaged: its operator must put a backup back.", DAMAGED)
    return DataLossError(
        f"The database {path} is damaged ({detail}). {RESTORE}; what is there is left as it is.", DAMAGED
    )


def without_path(fault: StemTubeError) -> StemTubeError:
    """The same error for clients, without paths."""
    return damage(None, "") if isinstance(fault, DataLossError) else outage(fault.reason, None)


def outage(reason: str, path: Path | None) -> UnavailableError:
    """The error of a database that cannot be used now but is not damaged."""
    return UnavailableError(f"The database{f' {path}' if path else ''} {_WORDS[reason]}.", reason)


def has_log(path: Path) -> bool:
    """Whether there is a write-ahead log beside a SQLite file; after an orderly end there is none."""
    log_beside = path.with_name(f"{path.name}-wal")
    return log_beside.exists() and log_beside.stat().st_size > 0


def expect_content(path: Path) -> None:
    """Checks that a file is not empty; SQLite would take an empty file for a new database.

    Raises:
        DataLossError: it is missing or empty (reason DATABASE_DAMAGED).
        UnavailableError: it cannot be read.
    """
    try:
        if not path.exists() or path.stat().st_size == 0:
            raise damage(path, "the file is missing or empty")
    except PermissionError as error:
        raise system_fault(error, path) from error


def check_file(path: Path, *, thorough: bool = False) -> None:
    """Checks a SQLite file before anything is written to it. Blocks; reads the whole file.

    Args:
        path: the file.
        thorough: whether to compare rows with indexes, too. If there is a log beside the file, this is always done: the
            log may belong to another file, which the quick check does not always find.

    Raises:
        DataLossError: it is damaged (reason DATABASE_DAMAGED).
        UnavailableError: it is locked, or cannot be read.
    """
    expect_content(path)
    try:
        check = "integrity_check" if thorough or has_log(path) else "quick_check"
        with closing(open_sqlite(path, "ro")) as connection:
            (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    except OSError as error:
        raise system_fault(error, path) from error
    except sqlite3.Error as error:
        raise sqlite_fault(error, path) or outage(AWAY, path) from error
    if found != "ok":
        raise damage(path, " ".join(str(found).split()))


def sqlite_reason(error: sqlite3.Error, path: Path | None) -> str | None:
    """The reason for an error of SQLite; None if the statement is wrong, not the file."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return DAMAGED if "Could not decode to UTF-8" in str(error) else None
    if code == _CORRUPT_FILE_SYSTEM:
        return DAMAGED
    reason = _SQLITE_REASONS.get(code & 0xFF)
    if path and reason in (READ_ONLY, AWAY) and _lacks_permission(path):
        return NO_PERMISSION
    return reason


def expect_access(path: Path) -> None:
    """Checks, without opening it, that a file may be read and written.

    Raises:
        UnavailableError: it may not (reason DATABASE_NO_PERMISSION or DATABASE_READ_ONLY).
    """
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise outage(NO_PERMISSION if _lacks_permission(path) else READ_ONLY, path)


def _lacks_permission(path: Path) -> bool:
    """Whether permissions are missing; SQLite also needs those of the folder, for its log."""
    if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        return False
    effective = os.access in os.supports_effective_ids
    wanted = ((path, os.R_OK | os.W_OK), (path.parent, os.W_OK | os.X_OK))
    return path.exists() and not all(os.access(place, mode, effective_ids=effective) for place, mode in wanted)
