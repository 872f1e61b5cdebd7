"""Commands for administrators of a suite."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich import filesize
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cli.api import Api, ApiError, Json
from cli.backup.backup import ShowProgress, Summary, backup
from cli.backup.library_store import ADOPT
from cli.backup.restore import restore
from cli.local.suite import SuiteSettings
from cli.options import DEFAULT_URL, Password, Url, User
from cli.running import console, run, signed_in
from services.common.config import load
from services.common.jobs.states import FINISHED_JSON_NAMES

POLL_SECONDS = 0.5


async def cleanup(api: Api, *, dry_run: bool) -> Json:
    """Starts a cleanup and waits for its report.

    Raises:
        ApiError: the suite refuses or does not answer, or the cleanup failed.
    """
    found: Json = (await api.post("/api/v1/admin/cleanups", {"dryRun": dry_run}))["cleanup"]
    while found["job"]["state"] not in FINISHED_JSON_NAMES:
        await asyncio.sleep(POLL_SECONDS)
        found = (await api.get(f"/api/v1/admin/cleanups/{found['job']['id']}"))["cleanup"]
    if "error" in found["job"]:
        raise ApiError(found["job"]["error"]["message"])
    return found


def show_cleanup(found: Json, console: Console) -> None:
    """Prints a cleanup's report."""
    report, done = found["report"], "would be removed" if found["dryRun"] else "removed"
    size = int(report["objectBytes"]) / 1e6
    if report.get("heldBack"):
        _show(console, report["heldBack"])
        done = "found"
    _show(console, f"objects that nothing needs: {report['objectCount']} ({size:.1f} MB) {done}")
    trashed, waiting = report.get("trashedCount", 0), report.get("waitingCount", 0)
    _show(console, f"  of these put into the trash: {trashed}; waiting: {waiting} more")
    for key in report["objects"]:
        _show(console, f"  {key}")
    _show(console, f"records whose object is gone: {report['recordCount']} {done}")
    for record in report["records"]:
        _show(console, f"  {record}")
    _show(console, f"records whose object is missing, kept for now: {report.get('missingCount', 0)}")
    for record in report.get("missing", ()):
        _show(console, f"  {record}")
    _show(console, f"damaged originals: {report.get('damagedCount', 0)}")
    for key in report.get("damaged", ()):
        _show(console, f"  {key}")
    _show(console, f"objects taken out of the trash: {report.get('restoredCount', 0)}")
    _show(console, f"deleted tracks past their grace period: {report['expiredTrackCount']} {done}")


@contextlib.contextmanager
def copying(console: Console) -> Iterator[ShowProgress]:
    """Shows the progress of a backup or restore; without a terminal, a line at the beginning of each item."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        shown = ""

        def show_progress(what: str, done: int, total: int) -> None:
            nonlocal shown
            if what != shown:
                shown = what
                progress.reset(task)
                if not console.is_terminal:
                    console.print(what, markup=False, highlight=False)
            progress.update(task, description=what, completed=done, total=total or None)

        yield show_progress


def show_backup(summary: Summary, folder: Path, console: Console) -> None:
    """Prints the contents of a backup and its faults."""
    names, size = ", ".join(summary.databases), filesize.decimal(summary.object_bytes)
    line = f"{folder}: databases of {names}; {summary.object_count} objects, {size}."
    if summary.gone:
        line += f" {summary.gone} more were deleted meanwhile."
    _show(console, line)
    if summary.many_gone:
        _show(
            console,
            "That is much: were users deleting songs, or is the object store losing files? Keep earlier backups.",
        )
    for key in summary.damaged:
        _show(
            console, f"damaged: {key} is not what was uploaded. Its copy in an earlier backup may be good: keep that."
        )


def show_restored(summary: Summary, folder: Path, console: Console, *, keep_sign_ins: bool) -> None:
    """Prints the contents of the restored backup and how users can sign in."""
    show_backup(summary, folder, console)
    _show(console, "The object store has a new id: the library refuses the store that the backup was made from.")
    _show(
        console,
        f"Accounts are as they were at {summary.made}: disable, demote or delete accounts again that were disabled, "
        "demoted or deleted since then, and reset passwords that were changed because somebody else knew them.",
    )
    if keep_sign_ins:
        _show(
            console,
            "WARNING: sign-ins were kept. Sessions, API tokens, invitations, one-time passwords and signing keys that "
            "were ended since the backup are valid again, even stolen ones. `stemtube admin rotate-key --leaked` ends "
            "access tokens; users end their sessions and API tokens.",
        )
    else:
        _show(
            console,
            "All sessions, API tokens, invitations and one-time passwords have ended; a new signing key is made at the "
            "start. Users sign in with their passwords and make new API tokens; "
            "`stemtube admin users reset-password NAME` gives a new one-time password.",
        )


def _show(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def cleanup_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what would be removed.")] = False,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Removes objects that no record needs and records whose objects are gone."""

    async def work(api: Api) -> None:
        show_cleanup(await cleanup(api, dry_run=dry_run), console)

    run(signed_in(url, user, password, work))


def backup_command(folder: Annotated[Path, typer.Argument(help="Is made; if it is there, it must be empty.")]) -> None:
    """Copies all databases and objects into a folder, while the suite runs.

    Ends with 1 if an original is damaged, or a tenth of the objects was deleted meanwhile.
    """
    with copying(console) as show_progress:
        made = run(backup(load(SuiteSettings), folder, show_progress))
    show_backup(made, folder, console)
    if made.damaged or made.many_gone:
        raise typer.Exit(1)


def restore_command(
    folder: Annotated[Path, typer.Argument(help="The folder that `backup` made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the databases and objects that are there.")] = False,
    keep_sign_ins: Annotated[
        bool,
        typer.Option(
            "--keep-sign-ins",
            help="Keep sessions, API tokens, invitations, one-time passwords and signing keys of the backup. Those "
            "that were ended since are valid again; otherwise all of them end.",
        ),
    ] = False,
    adopt_store: Annotated[
        bool,
        typer.Option(
            ADOPT,
            help="Restore into an object store that is not the present library's: a new disk or bucket.",
        ),
    ] = False,
) -> None:
    """Puts a backup back, once its checksums are found right. The suite must be stopped."""
    settings = load(SuiteSettings)
    with copying(console) as show_progress:
        work = restore(
            settings, folder, show_progress, force=force, keep_sign_ins=keep_sign_ins, adopt_store=adopt_store
        )
        restored = run(work)
    show_restored(restored, folder, console, keep_sign_ins=keep_sign_ins)
    if restored.damaged:
        raise typer.Exit(1)


def rotate_key_command(
    leaked: Annotated[bool, typer.Option("--leaked", help="Withdraw the older keys, and all access tokens.")] = False,
    url: Url = DEFAULT_URL,
    user: User = "",
    password: Password = "",
) -> None:
    """Makes a new key for access tokens, which is used as soon as all services know it."""

    async def work(api: Api) -> None:
        await api.post("/api/v1/admin/signing-keys", {"withdrawOlder": leaked})

    run(signed_in(url, user, password, work))
