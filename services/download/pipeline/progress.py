"""The progress of each part of a track's job, kept in the job's row as the contract's JSON for watchers."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from services.common.jobs.context import JobContext
from services.common.jobs.messages import duration, error_message, message_json
from services.common.jobs.records import JobRecord
from services.common.jobs.states import FINISHED_NUMBERS
from services.download.pipeline.plan import part_names
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2

WEIGHTS = {
    "acquire": 5,
    "separation": 45,
    "beats": 12,
    "key": 5,
    "chords": 14,
    "structure": 4,
    "lyrics": 15,
    "tuning": 1,
}
QUEUED, RUNNING = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING
SUCCEEDED, FAILED = job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED


class JobProgress:
    """The parts of one job. The state from an earlier attempt stays until a part changes."""

    def __init__(self, job: JobContext, names: list[str]) -> None:
        self._job = job
        self._parts = _known_parts(job.detail, names)
        self._json = {name: message_json(part) for name, part in self._parts.items()}
        self._live: dict[str, Any] = dict(job.detail.get("live", {}))

    def update(
        self,
        name: str,
        state: "job_pb2.JobState.ValueType",
        *,
        progress: float = 0.0,
        stage: str = "",
        eta_seconds: float | None = None,
        queue_position: int = 0,
        bytes_per_second: float | None = None,
    ) -> None:
        """Shows a change of a part, see `TrackJobPart`. Its progress never falls."""
        self._show(
            pb.TrackJobPart(
                name=name,
                state=state,
                progress=progress,
                stage=stage,
                eta=duration(eta_seconds),
                queue_position=queue_position,
                bytes_per_second=bytes_per_second or 0.0,
            )
        )

    def succeed(self, name: str) -> None:
        """Shows that a part is done."""
        self._show(pb.TrackJobPart(name=name, state=SUCCEEDED, progress=1.0))

    def fail(self, name: str, error: Mapping[str, Any]) -> None:
        """Shows that a part failed."""
        self._show(pb.TrackJobPart(name=name, state=FAILED, error=error_message(error)))

    def show_ended(self, ended: Mapping[str, dict[str, Any] | None]) -> None:
        """Shows how parts ended, perhaps in an earlier attempt.

        Args:
            ended: by part, the error, or None if it succeeded.
        """
        for name, error in ended.items():
            if error:
                self.fail(name, error)
            else:
                self.succeed(name)

    def show_remote(self, name: str, job: job_pb2.Job, live: separation_pb2.LiveStems | None = None) -> None:
        """Shows the progress of the other service's job that makes a part, and the stems that can be played already.

        The end of that job is shown when the result is stored.
        """
        if job.state in FINISHED_NUMBERS:
            return
        part = pb.TrackJobPart(
            name=name,
            state=job.state,
            progress=job.progress,
            stage=job.stage,
            eta=job.eta if job.HasField("eta") else None,
            queue_position=job.queue_position,
            live=_live_message(self._job.job_id, name, live) if live else None,
        )
        self._show(part, live)

    def errors(self) -> list[dict[str, Any]]:
        """Errors of the parts that failed."""
        return [message_json(part.error) for part in self._parts.values() if part.HasField("error")]

    def any_succeeded(self) -> bool:
        """Whether any part except `acquire` succeeded."""
        return any(part.state == SUCCEEDED for name, part in self._parts.items() if name != "acquire")

    def _show(self, part: pb.TrackJobPart, live: separation_pb2.LiveStems | None = None) -> None:
        part.progress = max(part.progress, self._parts[part.name].progress)
        self._parts[part.name] = part
        self._json[part.name] = message_json(part)
        self._live.pop(part.name, None)
        if live:
            self._live[part.name] = message_json(live)
        self._report()

    def _report(self) -> None:
        weights = {name: WEIGHTS[name.partition(":")[0]] for name in self._parts}
        waiting = [part for part in self._parts.values() if part.state not in FINISHED_NUMBERS]
        left = sum(weights[part.name] * (1.0 - part.progress) for part in waiting)
        etas = [part.eta.ToMilliseconds() / 1000 for part in waiting if part.HasField("eta")]
        is_acquiring = any(part.name == "acquire" for part in waiting)
        self._job.report(
            "acquiring" if is_acquiring else "processing",
            1.0 - left / sum(weights.values()),
            eta_seconds=max(etas) if etas and len(etas) == len(waiting) else None,
            parts=list(self._json.values()),
            live=dict(self._live),
        )


def job_parts(record: JobRecord) -> list[pb.TrackJobPart]:
    """The parts of a track's job. Unfinished parts of a failed job failed with its error; others were cancelled."""
    parts = list(_known_parts(record.detail, part_names(record.payload["plan"])).values())
    error = error_message(record.error) if record.state == "failed" and record.error else None
    state = FAILED if error else job_pb2.JOB_STATE_CANCELLED
    for part in parts:
        if record.finished and part.state not in FINISHED_NUMBERS:
            part.CopyFrom(pb.TrackJobPart(name=part.name, state=state, progress=part.progress, error=error))
    return parts


def parts_in(record: JobRecord, *states: "job_pb2.JobState.ValueType") -> set[str]:
    """The names of the parts of a track's job that are in one of these states."""
    return {part.name for part in job_parts(record) if part.state in states}


def _known_parts(detail: Mapping[str, Any], names: list[str]) -> dict[str, pb.TrackJobPart]:
    """The last shown state of these parts, by name. Parts that were never shown are queued."""
    shown = ParseDict({"parts": detail.get("parts", [])}, pb.TrackJob(), ignore_unknown_fields=True).parts
    known = {part.name: part for part in shown}
    return {name: known.get(name, pb.TrackJobPart(name=name, state=QUEUED)) for name in names}


def _live_message(job_id: str, part: str, live: separation_pb2.LiveStems) -> pb.LiveSeparation:
    return pb.LiveSeparation(
        stems=[
            pb.LiveStem(name=stem, playlist=f"/api/v1/jobs/{job_id}/live/{part}/{stem}/playlist.m3u8")
            for stem in live.stems
        ],
        ready_seconds=live.count * live.file_samples / live.sample_rate_hz,
    )
