"""Faults of a suite at work: processes die and freeze, the store goes away, the disk fills, the clock is set."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
from pathlib import Path

from tests.chaos.clock import Clock
from tests.chaos.run import BUSY_SECONDS, Run
from tests.suite.running import EXTRA_WORKERS, SERVICES, EndedError

KILL_SECONDS, DOWN_SECONDS = 6.0, 2.0
FREEZES, FREEZE_SECONDS = 0.25, 14.0  # longer than a lease
QUIET_SECONDS = (6.0, 20.0)
AWAY_SECONDS = (2.0, 8.0)
FULL_SECONDS = (2.0, 6.0)
FULL_NEWS_SECONDS = 10.0  # a process that met a full disk has ended by then
SHIFTS = (90.0, 1800.0, 7200.0)
SHIFT_SECONDS = (4.0, 12.0)
LASTING = 0.5  # share of the changes that last until the clock is set again
DISK_MIB = 1024


async def kill(run: Run) -> None:
    """Kills processes and starts them again; some are frozen for longer than their leases."""
    dice = run.dice("kill")
    while run.goes_on:
        await asyncio.sleep(dice.uniform(0.5, 2 * KILL_SECONDS))
        victim = dice.choice((*SERVICES, *EXTRA_WORKERS, "gateway"))
        if dice.random() < FREEZES:
            run.suite.processes[victim].send_signal(signal.SIGSTOP)
            await asyncio.sleep(FREEZE_SECONDS)
            run.suite.processes[victim].send_signal(signal.SIGCONT)
            continue
        await asyncio.to_thread(run.suite.kill, victim)
        run.kills += 1
        await asyncio.sleep(dice.uniform(0, DOWN_SECONDS))
        await _start_again(run, victim)


async def _start_again(run: Run, name: str) -> None:
    """Starts a process until it is ready; it may end by itself on a full disk alone."""
    while True:
        try:
            return await asyncio.to_thread(run.suite.start, name, patience_seconds=BUSY_SECONDS)
        except EndedError:
            told = run.suite.log(name)
            # A full disk may have no room for the line that says so.
            if not run.disk_was_full and not any(text in told for text in ("DISK_FULL", "No space left")):
                run.faults.append(f"{name} could not start: {told.splitlines()[-1]}")
            await asyncio.sleep(1)


async def take_store_away(run: Run) -> None:
    """Takes the store away for some seconds: its folder is empty, as without its volume, or gives errors."""
    dice = run.dice("store")
    away = run.objects.with_name("objects-away")
    while run.goes_on:
        await asyncio.sleep(dice.uniform(*QUIET_SECONDS))
        is_empty, seconds = dice.random() < 0.5, dice.uniform(*AWAY_SECONDS)
        if not run.objects.is_dir():
            continue
        run.objects.rename(away)
        if is_empty:
            run.objects.mkdir(exist_ok=True)  # a process that starts may be faster
        else:
            run.objects.touch()
        try:
            await asyncio.sleep(seconds)
        finally:
            _bring_back(run.objects, away)


def _bring_back(objects: Path, away: Path) -> None:
    """Puts the folder back. Files written meanwhile are hidden below the mount point."""
    while away.exists():
        with contextlib.suppress(OSError):  # a process may make the folder at the same moment
            objects.rename(objects.with_name(f"objects-below-{os.urandom(4).hex()}"))
            away.rename(objects)


class Disk:
    """A disk of its own for a folder, which can be filled; a context that gives it back.

    Raises:
        OSError: this process may not mount anything.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        options = f"size={DISK_MIB}m,mode=0700"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            raise OSError(errno.EPERM, done.stderr.strip())

    def close(self) -> None:
        """Gives it back, with all that is on it."""
        subprocess.run(["umount", "-l", self._folder], check=True)


async def fill_disk(run: Run) -> None:
    """Fills the disk that holds databases, objects and logs for some seconds."""
    dice = run.dice("disk")
    filler = run.suite.data / "filler"
    while run.goes_on:
        await asyncio.sleep(dice.uniform(*QUIET_SECONDS))
        seconds = dice.uniform(*FULL_SECONDS)
        run.disk_was_full = True
        with filler.open("wb") as file:
            try:
                for _ in range(round(seconds * 10)):
                    await asyncio.to_thread(_fill, file.fileno(), run.suite.data)
                    await asyncio.sleep(0.1)
            finally:
                filler.unlink()
        await asyncio.sleep(FULL_NEWS_SECONDS)
        run.disk_was_full = False


def _fill(file: int, folder: Path) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    with contextlib.suppress(OSError):
        if free:
            os.posix_fallocate(file, os.fstat(file).st_size, free)


async def set_clock(run: Run, clock: Clock) -> None:
    """Sets the wall clock of all processes forward or back by minutes or hours, sometimes for long.

    In the end the clock is fast and stays so. If it stayed slow, older files would look new and be kept for as long.
    """
    dice = run.dice("clock")
    while run.goes_on:
        await asyncio.sleep(dice.uniform(*QUIET_SECONDS))
        clock.set(dice.choice(SHIFTS) * dice.choice((-1, 1)))
        if dice.random() >= LASTING:
            await asyncio.sleep(dice.uniform(*SHIFT_SECONDS))
            clock.set(0)
    clock.set(dice.choice(SHIFTS))
