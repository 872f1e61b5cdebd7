"""The parts of one analysis task: their inputs, progress and results."""

import threading
import time
from collections.abc import Callable
from typing import Any

from services.analysis.backends import registry
from services.analysis.backends.base import Backend, BackendEntry, Beats, Context, Endpoint
from services.analysis.contents import beats_of, content, lyrics_of, structure_of
from services.common.compute.engine import Report
from services.common.jobs.errors import KeptError
from services.common.jobs.messages import error_message, message_json
from services.common.jobs.states import FINISHED_NUMBERS
from services.common.parts import PART_NAMES, PART_NUMBERS, Part
from services.common.samples import Audio
from services.common.weights.catalogue import Choice
from stemtube.analysis.v1 import analysis_pb2 as pb
from stemtube.job.v1 import job_pb2

QUEUE = "analysis"
QUEUED, RUNNING = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING
SUCCEEDED, FAILED = job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED
# Share of decoding in a task's progress, and of loading in a part's.
DECODED = 0.05
LOADED = 0.05


class PartsRun:
    """The parts of one task. Each may run in its own thread.

    Args:
        choices: the choices for each part.
        done: content of the parts that are finished already.
        report: receives progress and results.
        language_model: for backends that need one.
    """

    def __init__(
        self, choices: list[dict[str, Any]], done: dict[str, Any], report: Report, language_model: Endpoint | None
    ) -> None:
        self.report = report
        self._lock = threading.Lock()
        self._language_model = language_model
        self._costs = {choice["part"]: registry.entry(choice["part"], choice["backend"]).cost for choice in choices}
        self._parts = {part: _status(part, SUCCEEDED if part in done else QUEUED) for part in self._costs}
        self._json = {part: message_json(status) for part, status in self._parts.items()}
        self._beats = beats_of(done["beats"]) if "beats" in done else None

    def show_loading(self, part: str, done: float) -> None:
        """Reports how much of a part's model has been fetched."""
        self._show(_status(part, RUNNING, LOADED * done), stage="loading")

    def analyse(
        self,
        choice: dict[str, Any],
        sound: Audio,
        mix: Callable[[], Audio] | None,
        backend: Backend,
        chosen: Choice[BackendEntry],
    ) -> None:
        """Runs one part and reports its result."""
        part = choice["part"]
        context = Context(
            beats=self._beats or (beats_of(choice["beats"]) if "beats" in choice else None),
            structure=structure_of(choice["structure"]) if "structure" in choice else None,
            lyrics=lyrics_of(choice["lyrics"]) if "lyrics" in choice else None,
            mix=mix,
            options={
                "language": choice["language"],
                "language_model": self._language_model,
                "text": choice.get("text", ""),
                "found_text": choice.get("found_text", ""),
            },
        )
        self._show(_status(part, RUNNING, LOADED))
        began = time.perf_counter()
        result = backend.analyze(
            sound, context, lambda done: self._show(_status(part, RUNNING, LOADED + (1 - LOADED) * done))
        )
        labels = {"queue": QUEUE, "part": part, "model": model_name(chosen)}
        self.report.measure("model_seconds", time.perf_counter() - began, **labels)
        self.report.measure("model_audio_seconds", sound.duration, **labels)
        if isinstance(result, Beats):
            self._beats = result
        self.report.keep(part, content(result, chosen.made_by))
        self._show(_status(part, SUCCEEDED))

    def fail(self, part: str, error: dict[str, Any]) -> None:
        """Reports that a part failed."""
        self._show(_status(part, FAILED, error=error))

    def outcome(self) -> dict[str, Any]:
        """The end of the task.

        Raises:
            StemTubeError: of the first part, if no part succeeded.
        """
        if all(status.state == FAILED for status in self._parts.values()):
            raise KeptError(next(status["error"] for status in self._json.values()))
        return {"parts": list(self._json.values())}

    def _show(self, status: pb.PartStatus, stage: str = "") -> None:
        # The lock is held until the report is sent, so that reports stay in order.
        part = PART_NAMES[status.part]
        with self._lock:
            status.progress = max(status.progress, self._parts[part].progress)
            self._parts[part] = status
            self._json[part] = message_json(status)
            done = sum(
                self._costs[name] * (1.0 if shown.state in FINISHED_NUMBERS else shown.progress)
                for name, shown in self._parts.items()
            )
            fraction = DECODED + (1 - DECODED) * done / sum(self._costs.values())
            self.report(stage or part, fraction, parts=list(self._json.values()))


def _status(
    part: Part, state: "job_pb2.JobState.ValueType", progress: float = 0.0, error: dict[str, Any] | None = None
) -> pb.PartStatus:
    return pb.PartStatus(
        part=PART_NUMBERS[part],
        state=state,
        progress=1.0 if state == SUCCEEDED else progress,
        error=error_message(error),
    )


def model_name(chosen: Choice[BackendEntry]) -> str:
    """The backend and model of a part, as metrics and traces name them: NAME or NAME/MODEL."""
    return "/".join(filter(None, (chosen.entry.name, chosen.model.name)))
