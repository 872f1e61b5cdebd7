"""SQLite files that this process has found to be damaged while it used them; with one the process is not ready."""

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from services.common.errors import DataLossError

log = structlog.get_logger(__name__)

# Of the whole process: the library, its queue and its chores use one file by several pools of connections.
_faults: dict[Path, DataLossError] = {}
_lock = threading.Lock()


def note(path: Path, fault: DataLossError) -> None:
    """Remembers that a file is damaged, until it is found to be whole at a start; the first time the log tells it."""
    with _lock:
        known = path in _faults
        _faults[path] = fault
    if not known:
        log.error("database damaged", reason=fault.reason, detail=fault.message)


def forget(path: Path) -> None:
    """Has a file count as whole again, because all of it was looked through."""
    with _lock:
        _faults.pop(path, None)


def fault_in(path: Path | None) -> DataLossError | None:
    """The damage that was found in a file; None where there is none, or no file."""
    return None if path is None else _faults.get(path)


def or_damage(path: Path | None, problem: Callable[[], Awaitable[str]] | None) -> Callable[[], Awaitable[str]]:
    """A question for readiness that tells of the damage of a file before any other problem."""

    async def ask() -> str:
        fault = fault_in(path)
        if fault is not None:
            return f"{fault.message} ({fault.reason})"
        return await problem() if problem else ""

    return ask
