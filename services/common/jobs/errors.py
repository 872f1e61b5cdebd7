"""Errors as they are stored in a job's row and in the outcomes of its steps."""

from collections.abc import Mapping
from typing import Any

from services.common.errors import Code, LimitExceededError, StemTubeError
from services.common.jobs.retry import TRANSIENT
from services.common.storage.marked_store import AWAY_REASONS
from services.common.storage.sqlite_faults import OUTAGES

TOO_MANY_JOBS = "TOO_MANY_JOBS"
INTERNAL_ERROR = {
    "code": int(Code.INTERNAL),
    "reason": "INTERNAL",
    "message": "Something went wrong here; the server's log tells more.",
    "retryable": True,
}


class KeptError(StemTubeError):
    """A stored domain error (see `error_detail`), raised again."""

    def __init__(self, detail: Mapping[str, Any]) -> None:
        super().__init__(detail["message"], detail["reason"])
        self.code = Code(detail["code"])


def error_detail(error: StemTubeError) -> dict[str, Any]:
    """An error as it is stored."""
    return {
        "code": int(error.code),
        "reason": error.reason,
        "message": error.message,
        "retryable": error.code in TRANSIENT,
    }


def is_outage(error: StemTubeError) -> bool:
    """Whether this process could not use a database or the object store for a while; the job itself did not fail."""
    return error.reason in (*OUTAGES, *AWAY_REASONS) and not isinstance(error, KeptError)


def too_many_jobs(most: int) -> LimitExceededError:
    """The error of a submission by a user who already has `most` unfinished jobs."""
    return LimitExceededError(
        f"{most} jobs wait already; come back when some are done.", TOO_MANY_JOBS, retry_after_seconds="60"
    )


def worker_died(deaths: int) -> dict[str, Any]:
    """The stored error of a job that failed because its workers died `deaths` times."""
    return {
        "code": int(Code.ABORTED),
        "reason": "WORKER_DIED",
        "message": f"The work was given up: its worker died {deaths} times while doing it.",
        "retryable": False,
    }
