"""What watchers see of a track's parts, also when an attempt goes on where a dead one was."""

from typing import Any

import pytest

from services.download.pipeline.progress import JobProgress
from stemtube.job.v1 import job_pb2


class Job:
    """The job as `JobProgress` uses it: the last detail, and somewhere to report to."""

    def __init__(self, detail: dict[str, Any]) -> None:
        self.detail = detail
        self.told: list[tuple[str, float, float | None]] = []

    def report(self, stage: str, fraction: float, eta_seconds: float | None = None, **detail: Any) -> None:
        self.told.append((stage, fraction, eta_seconds))
        self.detail = {**self.detail, **detail}


NAMES = ["acquire", "separation", "beats"]


def remote(state: "job_pb2.JobState.ValueType", progress: float, eta: int | None = None) -> job_pb2.Job:
    job = job_pb2.Job(id="r", state=state, progress=progress, stage="separating")
    if eta is not None:
        job.eta.FromSeconds(eta)
    return job


def test_the_whole_goes_on_as_its_parts_do_and_ends_at_one() -> None:
    job = Job({})
    job_progress = JobProgress(job, NAMES)  # type: ignore[arg-type]
    job_progress.succeed("acquire")
    for progress in (0.2, 0.6, 0.4):
        job_progress.show_remote("separation", remote(job_pb2.JOB_STATE_RUNNING, progress, eta=9))
    job_progress.succeed("beats")
    job_progress.succeed("separation")
    fractions = [fraction for _, fraction, _ in job.told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert job_progress.errors() == []
    assert {name: part["state"] for name, part in job.detail["parts"].items()} == dict.fromkeys(NAMES, "succeeded")


def test_an_attempt_that_finds_steps_done_shows_their_parts_as_ended() -> None:
    """Chaos found it: the report of a dead attempt may be older than the steps that it finished."""
    dead = Job({})
    JobProgress(dead, NAMES).show_remote("beats", remote(job_pb2.JOB_STATE_RUNNING, 0.5))  # type: ignore[arg-type]
    job = Job(dead.detail)
    job_progress = JobProgress(job, NAMES)  # type: ignore[arg-type]
    error = {"code": 9, "reason": "WEIGHTS_MISSING", "message": "not here", "retryable": False}
    for ended in ({"acquire": None}, {"separation": error}, {"beats": None}):
        job_progress.settle(ended)
    states = {name: part["state"] for name, part in job.detail["parts"].items()}
    assert states == {"acquire": "succeeded", "separation": "failed", "beats": "succeeded"}
    assert job_progress.errors() == [error]
    assert job_progress.any_succeeded()


def test_the_time_left_is_that_of_the_slowest_part_and_unknown_while_one_is() -> None:
    job = Job({})
    job_progress = JobProgress(job, NAMES)  # type: ignore[arg-type]
    job_progress.succeed("acquire")
    job_progress.show_remote("separation", remote(job_pb2.JOB_STATE_RUNNING, 0.5, eta=20))
    assert job.told[-1][2] is None
    job_progress.show_remote("beats", remote(job_pb2.JOB_STATE_RUNNING, 0.5, eta=5))
    assert job.told[-1][2] == pytest.approx(20)
