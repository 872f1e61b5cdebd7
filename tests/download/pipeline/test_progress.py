"""The progress of a track's parts as watchers see it, also after a dead attempt."""

import dataclasses
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from services.common.jobs.errors import worker_died
from services.common.jobs.messages import message_json
from services.common.jobs.records import JobRecord
from services.common.jobs.states import State
from services.download.pipeline.progress import JobProgress, job_parts
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2


class Job:
    """Stands for the `JobContext` of `JobProgress`: it has the last detail, and keeps reports."""

    job_id = "j"

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


def record(state: State, detail: dict[str, Any]) -> JobRecord:
    plan = {"separations": [{}], "analyses": [{"part": "beats"}]}
    texts: dict[str, Any] = dict.fromkeys(("id", "key", "kind", "user", "subject", "stage"), "")
    numbers: dict[str, Any] = dict.fromkeys(("fraction", "attempts", "deaths", "created_at", "version"), 0)
    times: dict[str, Any] = dict.fromkeys(("eta_seconds", "started_at", "ended_at"))
    return JobRecord(**texts, **numbers, **times, payload={"plan": plan}, state=state, detail=detail)


def states(job: Job) -> dict[str, str]:
    return {part["name"]: part["state"] for part in job.detail["parts"]}


def test_the_progress_of_a_job_follows_its_parts_and_ends_at_one() -> None:
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
    assert states(job) == dict.fromkeys(NAMES, "JOB_STATE_SUCCEEDED")


def test_an_attempt_shows_the_parts_of_finished_steps_as_ended() -> None:
    """The last report of a dead attempt may be older than its last finished step, as a chaos test showed."""
    dead = Job({})
    JobProgress(dead, NAMES).show_remote("beats", remote(job_pb2.JOB_STATE_RUNNING, 0.5))  # type: ignore[arg-type]
    job = Job(dead.detail)
    job_progress = JobProgress(job, NAMES)  # type: ignore[arg-type]
    error = {"code": 9, "reason": "WEIGHTS_MISSING", "message": "not here", "retryable": False}
    for ended in ({"acquire": None}, {"separation": error}, {"beats": None}):
        job_progress.show_ended(ended)
    assert states(job) == {
        "acquire": "JOB_STATE_SUCCEEDED",
        "separation": "JOB_STATE_FAILED",
        "beats": "JOB_STATE_SUCCEEDED",
    }
    assert job_progress.errors() == [error]
    assert job_progress.any_succeeded()


def test_the_jobs_row_has_the_json_of_the_contract() -> None:
    job = Job({})
    live = separation_pb2.LiveStems(
        stems=["vocals"], sample_rate_hz=44_100, file_samples=220_500, count=2, key_prefix="stems/s/live"
    )
    job_progress = JobProgress(job, NAMES)  # type: ignore[arg-type]
    job_progress.show_remote("separation", remote(job_pb2.JOB_STATE_RUNNING, 0.25, eta=9), live)
    shown = job.detail["parts"][1]
    assert (shown["state"], shown["stage"], shown["eta"]) == ("JOB_STATE_RUNNING", "separating", "9s")
    assert ParseDict(job.detail["live"]["separation"], separation_pb2.LiveStems()) == live
    told = job_parts(record("running", job.detail))
    assert [message_json(part) for part in told] == job.detail["parts"]
    assert told[1].live.ready_seconds == 10
    assert told[1].live.stems[0].playlist == "/api/v1/jobs/j/live/separation/vocals/playlist.m3u8"
    job_progress.succeed("separation")
    assert job.detail["live"] == {}


def test_an_ended_job_has_no_unfinished_parts() -> None:
    job = Job({})
    job_progress = JobProgress(job, NAMES)  # type: ignore[arg-type]
    job_progress.succeed("acquire")
    job_progress.show_remote("separation", remote(job_pb2.JOB_STATE_RUNNING, 0.5, eta=9))
    acquire, separation, beats = job_parts(record("cancelled", job.detail))
    assert acquire.state == job_pb2.JOB_STATE_SUCCEEDED
    assert {part.state for part in (separation, beats)} == {job_pb2.JOB_STATE_CANCELLED}
    assert (separation.progress, separation.stage, separation.HasField("eta")) == (0.5, "", False)


def test_the_eta_is_that_of_the_slowest_part_or_unknown() -> None:
    job = Job({})
    job_progress = JobProgress(job, NAMES)  # type: ignore[arg-type]
    job_progress.succeed("acquire")
    job_progress.show_remote("separation", remote(job_pb2.JOB_STATE_RUNNING, 0.5, eta=20))
    assert job.told[-1][2] is None
    job_progress.show_remote("beats", remote(job_pb2.JOB_STATE_RUNNING, 0.5, eta=5))
    assert job.told[-1][2] == pytest.approx(20)


def test_unfinished_parts_of_a_failed_job_have_its_error() -> None:
    """Parts of a job whose workers had died once showed as cancelled, without a reason."""
    dead = Job({})
    job_progress = JobProgress(dead, NAMES)  # type: ignore[arg-type]
    job_progress.succeed("acquire")
    job_progress.show_remote("beats", remote(job_pb2.JOB_STATE_RUNNING, 0.5))
    failed = dataclasses.replace(record("failed", dead.detail), error=worker_died(20))
    found = {part.name: (part.state, part.error.reason) for part in job_parts(failed)}
    lost = (job_pb2.JOB_STATE_FAILED, "WORKER_DIED")
    assert found == {"acquire": (job_pb2.JOB_STATE_SUCCEEDED, ""), "separation": lost, "beats": lost}
    cancelled = job_parts(record("cancelled", dead.detail))
    assert [part.state for part in cancelled if part.name == "beats"] == [job_pb2.JOB_STATE_CANCELLED]
