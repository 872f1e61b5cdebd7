"""Checks for room on the disks that a process writes to besides the object store: data folder, temporary files."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.common.storage.marked_store import MarkedStore

ROOM_BYTES = 16 * 1024 * 1024
"""A disk with less room counts as full."""


def needs_of(objects: MarkedStore, data_dir: Path) -> Callable[[], Awaitable[str]]:
    """The `needs` of a `JobQueue`: the object store, and room on the disks.

    Args:
        objects: the store.
        data_dir: the data folder.
    """

    async def problem() -> str:
        folders = data_dir, Path(tempfile.gettempdir())
        return await objects.problem() or await asyncio.to_thread(_disk_problem, *folders)

    return problem


def _disk_problem(*folders: Path) -> str:
    for folder in folders:
        try:
            found = os.statvfs(folder)
        except OSError:
            continue  # not there yet
        if found.f_bavail * found.f_frsize < ROOM_BYTES:
            return f"There is no room on the disk of {folder} (DISK_FULL)"
    return ""
