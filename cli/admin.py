"""What administrators ask of a running suite."""

import asyncio

from rich.console import Console

from cli.api import FINAL, Api, ApiError, Json

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

    show(f"objects that nothing needs: {report['objectCount']} ({size:.1f} MB) {done}")
    for key in report["objects"]:
        show(f"  {key}")
    show(f"records whose object is gone: {report['recordCount']} {done}")
    for record in report["records"]:
        show(f"  {record}")
    show(f"deleted tracks past their grace period: {report['expiredTrackCount']} {done}")
