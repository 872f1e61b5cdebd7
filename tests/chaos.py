"""`make chaos`: several users' jobs while random processes of the suite are killed or frozen, with the right end.

Seven processes run: the suite's five and a further worker each for separation and analysis. At the end every accepted
job must have succeeded in all its parts, or been cancelled if its user asked for that, and no database may hold work
that still waits (else it is lost); each piece of work must have one result (else it is duplicated), and every object in
the store must belong to something (else it is an orphan).
"""

import argparse
import asyncio
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from services.download.store_identity import MARKER
from services.separation.sweep import RESULTS
from tests.common.audio_files import music, with_soundfile
from tests.suite.client import Client, states
from tests.suite.conftest import add_user
from tests.suite.running import EXTRA_WORKERS, PASSWORD, SERVICES, Suite

USERS = ("admin", "anna", "ben", "cleo")
SONGS = 24
OPTIONS = {
    "separations": [{"model": "spleeter_2stems"}],
    "analyses": [{"part": "PART_BEATS", "backend": "librosa"}, {"part": "PART_KEY", "backend": "librosa"}],
}
SUBMIT_SECONDS, KILL_SECONDS, DOWN_SECONDS = 2.0, 6.0, 2.0
END_SECONDS = 240.0
DRAFT_SECONDS = 30.0
FREEZES, FREEZE_SECONDS = 0.25, 14.0  # longer than a lease
CANCELS = 0.15


class Chaos:
    """One run."""

    def __init__(self, suite: Suite, seconds: float, seed: int) -> None:
        self._suite = suite
        self._until = time.monotonic() + seconds
        self._dice = random.Random(seed)
        self.accepted: list[tuple[str, str]] = []
        self.cancelled: set[str] = set()
        self.kills = 0

    async def run(self, songs: list[Path]) -> None:
        await asyncio.gather(self._submit(songs), self._kill())

    async def _submit(self, songs: list[Path]) -> None:
        while time.monotonic() < self._until:
            user = self._dice.choice(USERS)
            try:
                async with Client(self._suite.url) as client:
                    await client.sign_in(user, PASSWORD)
                    status, answer = await client.upload(self._dice.choice(songs), OPTIONS)
                    if status == 200:
                        job_id = answer["job"]["job"]["id"]
                        self.accepted.append((user, job_id))
                        if self._dice.random() < CANCELS:
                            self.cancelled.add(job_id)
                            await asyncio.sleep(self._dice.uniform(0, 2 * SUBMIT_SECONDS))
                            await client.call("POST", f"/jobs/{job_id}/cancel", json={})
            except (aiohttp.ClientError, OSError, AssertionError, ValueError):
                pass  # refused or broken off: not accepted
            await asyncio.sleep(self._dice.uniform(0.2, 2 * SUBMIT_SECONDS))

    async def _kill(self) -> None:
        while time.monotonic() < self._until:
            await asyncio.sleep(self._dice.uniform(0.5, 2 * KILL_SECONDS))
            victim = self._dice.choice((*SERVICES, *EXTRA_WORKERS, "gateway"))
            if self._dice.random() < FREEZES:
                self._suite.processes[victim].send_signal(signal.SIGSTOP)
                await asyncio.sleep(FREEZE_SECONDS)
                self._suite.processes[victim].send_signal(signal.SIGCONT)
                continue
            await asyncio.to_thread(self._suite.kill, victim)
            self.kills += 1
            await asyncio.sleep(self._dice.uniform(0, DOWN_SECONDS))
            await asyncio.to_thread(self._suite.start, victim)

    async def lost(self) -> list[str]:
        """Accepted jobs that did not succeed in all their parts, and work that no database has ended."""
        found = []
        deadline = time.monotonic() + END_SECONDS
        for user, job_id in self.accepted:
            async with Client(self._suite.url) as client:
                await client.sign_in(user, PASSWORD)
                try:
                    job = await client.end_of(job_id, max(deadline - time.monotonic(), 1.0))
                except TimeoutError:
                    found.append(f"{job_id} did not end")
                    continue
                if job["job"]["state"] == "JOB_STATE_CANCELLED" and job_id in self.cancelled:
                    continue
                wrong = {name: state for name, state in states(job).items() if state != "succeeded"}
                track = (await client.get(f"/tracks/{job['trackId']}"))["track"]
                if wrong or len(track["stems"]) != 2 or not track.get("key") or not track.get("tempo"):
                    found.append(f"{job_id} ended with {wrong}")
        for service in ("download", "separation", "analysis"):
            open_jobs = "SELECT id, state FROM job WHERE state IN ('queued', 'running')"
            found += [f"{service}: {job_id} is still {state}" for job_id, state in self._query(service, open_jobs)]
            taken = "SELECT workflow_uuid, status FROM workflow_status WHERE status IN ('ENQUEUED', 'PENDING')"
            found += [f"{service}: the engine holds {job_id} {state}" for job_id, state in self._query(service, taken)]
        return found

    def duplicated(self) -> list[str]:
        """Work that has more than one result."""
        found = []
        for service in ("separation", "analysis"):
            query = "SELECT key, count(*) FROM job WHERE state = 'succeeded' GROUP BY key HAVING count(*) > 1"
            found += [f"{service} {key}: {count} results" for key, count in self._query(service, query)]
        same = "SELECT owner_id, content_hash, count(*) FROM tracks GROUP BY 1, 2 HAVING count(*) > 1"
        found += [f"{count} tracks of one song" for _, _, count in self._query("download", same)]
        return found

    def orphans(self) -> list[str]:
        """Objects that belong to nothing."""
        objects = self._suite.data / "objects"
        there = {str(path.relative_to(objects)) for path in objects.rglob("*") if path.is_file()}
        # The store's own mark, and those that separations leave of their results.
        there = {key for key in there if key != MARKER and not key.startswith(f"{RESULTS}/")}
        used = {
            key
            for table in ("tracks", "stems")
            for row in self._query("download", f"SELECT audio_key, peaks_key FROM {table}")
            for key in row
        }
        missing = [f"missing {key}" for key in used - there]
        return missing + sorted(there - used)

    def _query(self, database: str, query: str) -> list[tuple[str, ...]]:
        with sqlite3.connect(f"{self._suite.data}/databases/{database}.sqlite") as connection:
            return connection.execute(query).fetchall()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stemtube-chaos-"))
    housekeeping = {
        "SEPARATION__CHORE_SECONDS": 5,
        "DOWNLOAD__CHORE_SECONDS": 5,
        "DOWNLOAD__DRAFT_HOURS": DRAFT_SECONDS / 3600,
        "DOWNLOAD__UNNEEDED_DAYS": 0,
        "DOWNLOAD__TRASH_DAYS": 0,
    }
    suite = Suite(folder, settings=housekeeping)
    print(f"chaos for {arguments.minutes:g} min, seed {arguments.seed}, logs in {folder}")
    try:
        songs = [with_soundfile(folder / f"song{n}.flac", music(8 + n % 5, seed=n)) for n in range(SONGS)]
        await asyncio.to_thread(suite.start, "auth", "separation", "analysis", "download", "gateway", *EXTRA_WORKERS)
        for user in USERS[1:]:
            await add_user(suite, user)
        chaos = Chaos(suite, arguments.minutes * 60, arguments.seed)
        await chaos.run(songs)
        lost = await chaos.lost()
        await asyncio.sleep(DRAFT_SECONDS + 15)
        duplicated, orphans = chaos.duplicated(), chaos.orphans()
    finally:
        await asyncio.to_thread(suite.stop)
    for finding in (*lost, *duplicated, *orphans):
        print("  " + finding)
    print(
        f"jobs={len(chaos.accepted)} kills={chaos.kills} lost={len(lost)} "
        f"duplicated={len(duplicated)} orphans={len(orphans)}"
    )
    if lost or duplicated or orphans or not chaos.accepted:
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
