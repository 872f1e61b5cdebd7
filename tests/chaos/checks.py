"""Checks at the end: nothing lost, nothing made twice, nothing left over."""

import asyncio
import json
import time
from collections.abc import Callable

from tests.chaos.run import Run
from tests.chaos.users import LINK_USER, QUOTA_USER, end_of
from tests.suite.client import Json, states

STILL_SECONDS = 600.0  # what has not changed for so long does not go on
SIGN_IN_SECONDS = 60.0
STEMS = 2
# The store's marker, and the markers of separations' results. There is no trash (`TRASH_DAYS`).
NOT_ORPHANS = ("library-id", "separations/")


async def lost(run: Run) -> list[str]:
    """Accepted jobs that did not succeed in all their parts, and work that no database has ended."""
    await _until_settled(run.progress)
    found = []
    for user, job_id in run.accepted:
        try:
            async with asyncio.timeout(SIGN_IN_SECONDS):
                job, track = await end_of(run, user, job_id)
        except TimeoutError:
            found.append(f"{job_id} did not end")
            continue
        if job["job"]["state"] == "JOB_STATE_CANCELLED" and job_id in run.cancelled:
            continue
        wrong = {name: state for name, state in states(job).items() if state != "succeeded"}
        if wrong or (user not in (QUOTA_USER, LINK_USER) and not _is_whole(track)):
            reasons = {part["name"]: part["error"].get("reason") for part in job["parts"] if part.get("error")}
            found.append(f"{job_id} ended with {wrong} {reasons}")
    for service in ("download", "separation", "analysis"):
        open_jobs = "SELECT id, state FROM job WHERE state IN ('queued', 'running')"
        found += [f"{service}: {job_id} is still {state}" for job_id, state in run.query(service, open_jobs)]
    return found


async def _until_settled(look: Callable[[], tuple[int, object]]) -> None:
    """Waits until nothing is left, or what is left does not change: a busy machine takes its time.

    Args:
        look: how many things are left, and something that changes while they go on.
    """
    count, before = await asyncio.to_thread(look)
    changed = time.monotonic()
    while count and time.monotonic() - changed < STILL_SECONDS:
        await asyncio.sleep(1)
        count, now = await asyncio.to_thread(look)
        if now != before:
            before, changed = now, time.monotonic()


async def left_over(run: Run) -> list[str]:
    """What belongs to nothing, once sweeps have had the time to remove it; see `orphans`."""

    def look() -> tuple[int, object]:
        found = orphans(run)
        return len(found), found

    await _until_settled(look)
    return orphans(run)


def _is_whole(track: Json) -> bool:
    return len(track.get("stems", ())) == STEMS and bool(track.get("key") and track.get("tempo"))


def duplicated(run: Run) -> list[str]:
    """Work that has more than one result."""
    found = []
    for service in ("separation", "analysis"):
        query = "SELECT key, count(*) FROM job WHERE state = 'succeeded' GROUP BY key HAVING count(*) > 1"
        found += [f"{service} {key}: {count} results" for key, count in run.query(service, query)]
    # Tracks whose audio has not come have no hash yet.
    same = "SELECT owner_id, content_hash, count(*) FROM tracks WHERE content_hash != '' GROUP BY 1, 2"
    found += [f"{count} tracks of one song" for _, _, count in run.query("download", f"{same} HAVING count(*) > 1")]
    return found


def orphans(run: Run) -> list[str]:
    """Objects that belong to nothing, and records whose object is missing."""
    there = {str(path.relative_to(run.objects)) for path in run.objects.rglob("*") if path.is_file()}
    used = {
        key
        for table in _tables_of_objects(run)
        for row in run.query("download", f"SELECT audio_key, peaks_key FROM {table}")
        for key in row
    }
    # Pieces of uploads that can still go on.
    unfinished = run.query("download", "SELECT id, parts FROM uploads WHERE job_id = ''")
    kept = {f"uploads/{upload}/{part}" for upload, parts in unfinished for part in json.loads(parts)}
    missing = [f"missing {key}" for key in used - there if key]
    return missing + sorted(key for key in there - used - kept if not key.startswith(NOT_ORPHANS))


def _tables_of_objects(run: Run) -> list[str]:
    """The library's tables whose rows name objects."""
    columns = "(SELECT count(*) FROM pragma_table_info(t.name) AS c WHERE c.name IN ('audio_key', 'peaks_key'))"
    query = f"SELECT name FROM sqlite_master AS t WHERE type = 'table' AND {columns} = 2"
    return [table for (table,) in run.query("download", query)]
