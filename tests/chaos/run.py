"""The state of one run of `make chaos`: the suite, the end time, the songs, and the accepted work."""

import contextlib
import random
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from services.common.storage.marked_store import MARKER
from tests.suite.running import Suite

USERS = ("admin", "anna", "ben", "cleo")
BUSY_SECONDS = 900.0  # a process of a machine that is busy otherwise has started, or ended, by then
Rows = list[tuple[str, ...]]


@dataclass
class Run:
    """One run.

    Attributes:
        suite: whose processes live in a folder of their own.
        seed: of all choices.
        until: by time.monotonic.
        songs: files that users upload.
        accepted: user and job of each song that was accepted.
        cancelled: jobs that their users have cancelled.
        removed: accepted songs that succeeded and that their users have deleted.
        kills: processes that were killed.
        disk_was_full: a moment ago.
        faults: what went against a promise, beyond lost, duplicated and orphaned things.
    """

    suite: Suite
    seed: int
    until: float
    songs: list[Path]
    accepted: list[tuple[str, str]] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    removed: int = 0
    kills: int = 0
    disk_was_full: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until

    def dice(self, kind: str) -> random.Random:
        """A generator for each kind, so that its choices do not depend on the other kinds."""
        return random.Random(f"{self.seed} {kind}")

    @property
    def objects(self) -> Path:
        """The folder of the object store."""
        return self.suite.data / "objects"

    def query(self, database: str, query: str, *values: str) -> Rows:
        """Asks a service's database, again for a minute if its disk is full."""
        until = time.monotonic() + 60
        while True:
            try:
                with sqlite3.connect(f"{self.suite.data}/databases/{database}.sqlite", timeout=30) as connection:
                    return connection.execute(query, values).fetchall()
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def progress(self) -> tuple[int, Rows]:
        """How many jobs have not ended, and something that changes whenever one of them goes on."""
        states = "SELECT count(*) FILTER (WHERE state IN ('queued', 'running')), sum(version) FROM job"
        found = [self.query(service, states)[0] for service in ("download", "separation", "analysis")]
        return sum(int(count) for count, _ in found), found

    def taken_by(self, user_id: str) -> int:
        """A user's bytes in the store: files of the user's tracks, and everything that separations have made.

        Raises:
            OSError: the store is away.
        """
        tracks = "SELECT audio_key, peaks_key, cover_key FROM tracks JOIN access ON track_id = id WHERE user_id = ?"
        keys = {key for row in self.query("download", tracks, user_id) for key in row if key}
        jobs = self.query("separation", 'SELECT id FROM job WHERE "user" = ?', user_id)
        stems = [path for (job_id,) in jobs for path in (self.objects / "stems" / job_id).rglob("*") if path.is_file()]
        size = 0
        for path in (*(self.objects / key for key in keys), *stems):
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                size += path.stat().st_size
        (self.objects / MARKER).stat()  # else the store went away meanwhile, and files were not counted
        return size
