"""`make chaos`: several users' jobs while what they need fails in random ways, with the right end.

Seven processes run: the suite's five and a further worker each for separation and analysis. At the end every accepted
job must have succeeded in all its parts, or been cancelled if its user asked for that, and no database may hold work
that still waits (else it is lost); each piece of work must have one result (else it is duplicated), and every object in
the store must belong to something (else it is an orphan). The seed repeats the choices of each kind.
"""

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from songs.small_songs import music
from tests.chaos import checks, clock, faults, users
from tests.chaos.clock import Clock
from tests.chaos.run import BUSY_SECONDS, USERS, Run
from tests.common.audio_files import with_soundfile
from tests.suite.conftest import add_user
from tests.suite.running import EXTRA_WORKERS, Suite

SONGS = 24
DRAFT_SECONDS = 60.0
HOUSEKEEPING = {
    "SEPARATION__MAINTENANCE_SECONDS": 5,
    "DOWNLOAD__MAINTENANCE_SECONDS": 5,
    "DOWNLOAD__DRAFT_HOURS": DRAFT_SECONDS / 3600,
    "DOWNLOAD__UNNEEDED_DAYS": 0,
    "DOWNLOAD__TRASH_DAYS": 0,
    "DOWNLOAD__FETCH_STALL_SECONDS": 2 * users.MEANWHILE_SECONDS,  # links that hang do so until they are cancelled
}
KINDS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "kill": faults.kill,
    "store": faults.take_store_away,
    "disk": faults.fill_disk,
    "uploads": users.break_off,
    "site": users.hang,
    "quota": users.fill_quota,
}
ALL_KINDS = (*KINDS, "clock")


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", nargs="+", choices=ALL_KINDS, default=ALL_KINDS, help="kinds that happen")
    parser.add_argument("--without", nargs="+", choices=ALL_KINDS, default=(), help="kinds that do not")
    return parser.parse_args()


async def main() -> int:
    """Runs it; the exit code is 1 if something went wrong, and the logs are kept then."""
    given = arguments()
    kinds = {kind for kind in given.only if kind not in given.without}
    folder = Path(tempfile.mkdtemp(prefix="stemtube-chaos-"))
    print(f"chaos for {given.minutes:g} min, seed {given.seed}, kinds {' '.join(sorted(kinds))}, logs in {folder}")
    with contextlib.ExitStack() as resources:
        suite, set_clock = _prepare(folder, kinds, resources)
        songs = [with_soundfile(folder / f"song{n}.flac", music(8 + n % 5, seed=n)) for n in range(SONGS)]
        try:
            await _start(suite)
            run = Run(suite, given.seed, time.monotonic() + given.minutes * 60, songs)
            happening = [KINDS[kind](run) for kind in KINDS if kind in kinds]
            if set_clock:
                happening.append(faults.set_clock(run, set_clock))
            await asyncio.gather(users.submit(run), *happening)
            lost = [*run.faults, *await checks.lost(run)]
            await asyncio.sleep(DRAFT_SECONDS + 15)
            duplicated, orphans = checks.duplicated(run), await checks.left_over(run)
        finally:
            await asyncio.to_thread(suite.stop, BUSY_SECONDS)
        is_right = not (lost or duplicated or orphans) and bool(run.accepted or run.removed)
        if not is_right and suite.data != folder:
            shutil.copytree(suite.data, folder / "kept", ignore=shutil.ignore_patterns("objects*"))
    for finding in (*lost, *duplicated, *orphans):
        print("  " + finding)
    print(
        f"jobs={len(run.accepted) + run.removed} kills={run.kills} lost={len(lost)} "
        f"duplicated={len(duplicated)} orphans={len(orphans)}"
    )
    if is_right:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_right else 1


def _prepare(folder: Path, kinds: set[str], resources: contextlib.ExitStack) -> tuple[Suite, Clock | None]:
    """The suite, with a disk and a clock that can be set where these kinds can be had; `kinds` loses the others."""
    data = folder / "data"
    data.mkdir()
    if "disk" in kinds:
        try:
            resources.callback(faults.Disk(data).close)
        except OSError as error:
            kinds.discard("disk")
            print(f"no disk fills: {error.strerror}")
    suite = Suite(data, settings=HOUSEKEEPING)
    if "clock" not in kinds:
        return suite, None
    if why_not := clock.why_not():
        print(f"no clock is set: {why_not}")
        return suite, None
    shifted = resources.enter_context(Clock(folder))
    suite.environment |= shifted.environment
    return suite, shifted


async def _start(suite: Suite) -> None:
    names = ("auth", "separation", "analysis", "download", "gateway", *EXTRA_WORKERS)
    await asyncio.to_thread(suite.start, *names, patience_seconds=BUSY_SECONDS)
    for user in (*USERS[1:], *users.HANGING_USERS, users.LINK_USER, users.QUOTA_USER):
        await add_user(suite, user)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
