"""When a failed job is tried again. All rules for this are here."""

from dataclasses import dataclass

from services.common.errors import Code, StemTubeError

TRANSIENT = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED)
"""Codes of errors that may not happen again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is tried, and how long it waits in between.

    Attributes:
        retries: how often an attempt may be repeated after transient errors.
        deaths: a job fails when the process that does its work has died this many times; it is often a worker's child.
        worker_deaths: a job fails when workers have died this many times in a row during it, without progress.
        device_faults: a job fails when workers' devices have failed at it this many times.
        first_delay_seconds: from the first transient error to the next attempt; each further delay is twice as long.
    """

    retries: int = 4
    deaths: int = 3
    worker_deaths: int = 5
    device_faults: int = 5
    first_delay_seconds: float = 1.0

    def is_last_try(self, retries: int, reason: str = "") -> bool:
        """Whether a transient error in this attempt ends the job.

        Args:
            retries: retries so far, this attempt included.
            reason: of the error. After WORKER_DIED fewer retries follow: the other service has tried several times.
        """
        return retries >= (self.deaths - 1 if reason == "WORKER_DIED" else self.retries)

    def is_final(self, error: StemTubeError, retries: int) -> bool:
        """Whether a job ends with this error after `retries` retries, instead of being tried again."""
        return error.code not in TRANSIENT or self.is_last_try(retries, error.reason)

    @property
    def longest_delay_seconds(self) -> float:
        """The longest time between two attempts."""
        return self.delay_seconds(max(self.retries - 1, 0))

    def delay_seconds(self, retries: int) -> float:
        """How long a job waits for its next attempt after `retries` retries."""
        return self.first_delay_seconds * 2.0**retries
