"""Jobs as the rest of StemTube sees them, without leases."""

from dataclasses import dataclass, field
from typing import Any

from services.common.jobs.states import UNFINISHED, State
from services.common.jobs.tables import job_table

INTERACTIVE, BATCH = 0, 1
"""Priorities: all interactive jobs run before all batch jobs."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One row of the table of jobs; `fraction` in [0, 1], times in seconds since 1970.

    For a job that waits for its next attempt, `not_before` is when that is due and `retry_error` is how the last one
    ended. `origin` is the request context of the job's first request (None in rows of earlier versions).
    `device_faults` counts how often a worker's device failed at the job.
    """

    id: str
    key: str
    kind: str
    user: str
    subject: str
    payload: dict[str, Any]
    state: State
    stage: str
    fraction: float
    eta_seconds: float | None
    attempts: int
    deaths: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    version: int
    detail: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    origin: dict[str, str] | None = None
    device_faults: int = 0
    retries: int = 0
    not_before: float | None = None
    retry_error: dict[str, Any] | None = None
    queue_position: int = 0

    @property
    def finished(self) -> bool:
        """Whether the job has ended."""
        return self.state not in UNFINISHED


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs wait, how many run, and how long the oldest has waited, in seconds."""

    queued: int
    running: int
    oldest_seconds: float


COLUMNS = [job_table.c[name] for name in JobRecord.__dataclass_fields__ if name != "queue_position"]
"""The columns of a `JobRecord`."""
