"""What administrators ask of a suite, and what they see."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from rich import filesize
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cli.api import FINAL, Api, ApiError, Json
from cli.backup import Summary, Tell

POLL_SECONDS = 0.5


async def cleanup(api: Api, *, dry_run: bool) -> Json:
    """Has a cleanup done and waits for its report.

    Raises:
        ApiError: the suite refuses or does not answer, or the cleanup failed.
    """
    found: Json = (await api.post("/api/v1/admin/cleanups", {"dryRun": dry_run}))["cleanup"]
    while found["job"]["state"] not in FINAL:
        await asyncio.sleep(POLL_SECONDS)
        found = (await api.get(f"/api/v1/admin/cleanups/{found['job']['id']}"))["cleanup"]
    if "error" in found["job"]:
        raise ApiError(found["job"]["error"]["message"])
    return found


def show_cleanup(found: Json, console: Console) -> None:
    """Prints a cleanup's report."""
    report, done = found["report"], "would be removed" if found["dryRun"] else "removed"
    size = int(report["objectBytes"]) / 1e6

    def show(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if report.get("heldBack"):
        show(report["heldBack"])
        done = "found"
    show(f"objects that nothing needs: {report['objectCount']} ({size:.1f} MB) {done}")
    show(
        f"  of these put into the trash: {report.get('trashedCount', 0)}; waiting: {report.get('waitingCount', 0)} more"
    )
    for key in report["objects"]:
        show(f"  {key}")
    show(f"records whose object is gone: {report['recordCount']} {done}")
    for record in report["records"]:
        show(f"  {record}")
    show(f"records whose object is missing, kept for now: {report.get('missingCount', 0)}")
    for record in report.get("missing", ()):
        show(f"  {record}")
    show(f"damaged originals: {report.get('damagedCount', 0)}")
    for key in report.get("damaged", ()):
        show(f"  {key}")
    show(f"objects taken out of the trash: {report.get('restoredCount', 0)}")
    show(f"deleted tracks past their grace period: {report['expiredTrackCount']} {done}")


@contextlib.contextmanager
def copying(console: Console) -> Iterator[Tell]:
    """Shows how far a backup or its return is; where there is no terminal, a line when something else is begun."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        shown = ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal shown
            if what != shown:
                shown = what
                progress.reset(task)
                if not console.is_terminal:
                    console.print(what, markup=False, highlight=False)
            progress.update(task, description=what, completed=done, total=total or None)

        yield tell


def show_backup(summary: Summary, folder: Path, console: Console) -> None:
    """Prints what a backup holds."""
    names, size = ", ".join(summary.databases), filesize.decimal(summary.object_bytes)
    line = f"{folder}: databases of {names}; {summary.object_count} objects, {size}."
    if summary.gone:
        line += f" {summary.gone} more were deleted meanwhile."
    console.print(line, markup=False, highlight=False, soft_wrap=True)
