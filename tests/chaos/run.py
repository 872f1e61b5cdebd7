"""What one run of `make chaos` knows: the suite, until when it lasts, its songs, and what was accepted."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.suite.running import Suite

USERS = ("admin", "anna", "ben", "cleo")
# The size of uploads that quarrel for room is far above that of all songs of the others with their stems.
QUOTA_BYTES = 240_000_000


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
        kills: processes that were killed.
        skipped: kinds that cannot be had here, and why.
        faults: what went against a promise, beyond lost, duplicated and orphaned things.
    """

    suite: Suite
    seed: int
    until: float
    songs: list[Path]
    accepted: list[tuple[str, str]] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    kills: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until

    def dice(self, kind: str) -> random.Random:
        """Of a kind its own: its choices are the same whichever other kinds there are."""
        return random.Random(f"{self.seed} {kind}")
