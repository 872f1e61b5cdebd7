"""The states of a job: the contract's `JobState`, and the short names of the table of jobs, logs and metrics."""

from typing import Literal, get_args

from stemtube.job.v1 import job_pb2

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
UNFINISHED: tuple[State, ...] = ("queued", "running")

STATE_NUMBERS: "dict[State, job_pb2.JobState.ValueType]" = {
    state: job_pb2.JobState.Value(f"JOB_STATE_{state.upper()}") for state in get_args(State)
}
"""The contract's numbers."""

FINISHED_NUMBERS = frozenset(number for state, number in STATE_NUMBERS.items() if state not in UNFINISHED)
FINISHED_JSON_NAMES = frozenset(job_pb2.JobState.Name(number) for number in FINISHED_NUMBERS)
"""As in the JSON of messages: JOB_STATE_FAILED."""
