"""Where each part of a track's job is, as watchers see it."""

from collections.abc import Mapping
from typing import Any, Literal

from services.common.jobs.context import JobContext
from stemtube.job.v1 import job_pb2

WEIGHTS = {"acquire": 5, "separation": 45, "beats": 12, "key": 5, "chords": 14, "structure": 4, "lyrics": 15}
RemoteState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class JobProgress:
    """The parts of one job. What a former attempt has shown stays until there is news."""

    def __init__(self, job: JobContext, names: list[str]) -> None:
        self._job = job
        shown: dict[str, Any] = job.detail.get("parts", {})
        self._parts: dict[str, dict[str, Any]] = {name: shown.get(name, _part("queued")) for name in names}

    def update(self, name: str, state: RemoteState, **news: Any) -> None:
        """Shows news of a part: progress, stage, eta_seconds, bytes_per_second, queue_position, error."""
        progress = max(news.pop("progress", 0.0), self._parts[name]["progress"])
        self._parts[name] = _part(state, progress=progress, **news)
        self._report()

    def succeed(self, name: str) -> None:
        """Shows that a part is done."""
        self.update(name, "succeeded", progress=1.0)

    def fail(self, name: str, error: dict[str, Any]) -> None:
        """Shows that a part failed."""
        self.update(name, "failed", error=error)

    def settle(self, ended: Mapping[str, dict[str, Any] | None]) -> None:
        """Shows how parts ended, as their step kept it (None, or the error), perhaps in an earlier attempt."""
        for name, error in ended.items():
            if error:
                self.fail(name, error)
            else:
                self.succeed(name)

    def show_remote(self, name: str, job: job_pb2.Job, live: dict[str, Any] | None = None) -> None:
        """Shows where the other service's job is that does this part, and what of it can be heard already.

        Its end is shown once the result is kept.
        """
        if job.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING):
            self.update(
                name,
                "queued" if job.state == job_pb2.JOB_STATE_QUEUED else "running",
                progress=job.progress,
                stage=job.stage,
                eta_seconds=job.eta.ToMilliseconds() / 1000 if job.HasField("eta") else None,
                queue_position=job.queue_position,
                live=live,
            )

    def errors(self) -> list[dict[str, Any]]:
        """Errors of the parts that failed."""
        return [part["error"] for part in self._parts.values() if part["error"]]

    def any_succeeded(self) -> bool:
        """Whether anything was made."""
        return any(part["state"] == "succeeded" for name, part in self._parts.items() if name != "acquire")

    def _report(self) -> None:
        weights = {name: WEIGHTS[name.partition(":")[0]] for name in self._parts}
        ended = {name: part["state"] in ("succeeded", "failed") for name, part in self._parts.items()}
        done = sum(weights[name] * (1.0 if ended[name] else part["progress"]) for name, part in self._parts.items())
        etas = [part["eta_seconds"] for name, part in self._parts.items() if not ended[name]]
        known = [eta for eta in etas if eta is not None]
        acquired = ended.get("acquire", True)
        self._job.report(
            "processing" if acquired else "acquiring",
            done / sum(weights.values()),
            eta_seconds=max(known) if known and len(known) == len(etas) else None,
            parts={name: dict(part) for name, part in self._parts.items()},
        )


def _part(state: RemoteState, **news: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"progress": 0.0, "stage": "", "eta_seconds": None, "queue_position": 0}
    return {**empty, "error": None, "live": None, "state": state, **news}
