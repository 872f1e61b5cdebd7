"""SQLite files in which this process has found damage. The process is not ready while there is one."""

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from services.common.errors import DataLossError

log = structlog.get_logger(__name__)

# Global, because the library, its queue and its maintenance use the same file through several connection pools.
_faults: dict[Path, DataLossError] = {}
_lock = threading.Lock()


def note(path: Path, fault: DataLossError) -> None:
    """Marks a file as damaged until `forget`. Logs it the first time."""
    with _lock:
        known = path in _faults
        _faults[path] = fault
    if not known:
        log.error("database damaged", reason=fault.reason, detail=fault.message)


def forget(path: Path) -> None:
    """Marks a file as whole again, because a check found no damage."""
    with _lock:
        _faults.pop(path, None)


def fault_in(path: Path | None) -> DataLossError | None:
    """The damage that was found in a file; None if there is no damage, or no file."""
    return None if path is None else _faults.get(path)


def or_damage(path: Path | None, problem: Callable[[], Awaitable[str]] | None) -> Callable[[], Awaitable[str]]:
    """A readiness check that reports a damaged file before any other problem."""

    async def ask() -> str:
        fault = fault_in(path)
        if fault is not None:
            return f"{fault.message} ({fault.reason})"
        return await problem() if problem else ""

    return ask
