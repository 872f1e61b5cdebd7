"""The parts of one analysis task: what each is made from, how far it is, and how it ended."""

import threading
import time
from collections.abc import Callable
from typing import Any

from services.analysis.backends import registry
from services.analysis.backends.base import Backend, Beats, Context
from services.analysis.backends.structure.language_model import Endpoint
from services.analysis.contents import beats_of, content, lyrics_of, structure_of
from services.common.compute.engine import Report
from services.common.jobs.errors import KeptError
from services.common.samples import Audio

QUEUE = "analysis"
# Shares of the progress: decoding of a task's, loading of a part's.
DECODED = 0.05
LOADED = 0.05


class PartsRun:
    """The parts of one task, of which each may run in a thread of its own.

    Args:
        choices: what is made of each part.
        done: content of the parts that are finished already.
        report: where news goes.
        language_model: for backends that ask one.
    """

    def __init__(
        self, choices: list[dict[str, Any]], done: dict[str, Any], report: Report, language_model: Endpoint | None
    ) -> None:
        self.report = report
        self._lock = threading.Lock()
        self._language_model = language_model
        self._costs = {choice["part"]: registry.entry(choice["part"], choice["backend"]).cost for choice in choices}
        self._parts: dict[str, dict[str, Any]] = {
            choice["part"]: (
                {"state": "succeeded", "progress": 1.0, "error": None}
                if choice["part"] in done
                else {"state": "queued", "progress": 0.0, "error": None}
            )
            for choice in choices
        }
        self._beats = beats_of(done["beats"]) if "beats" in done else None

    def show_loading(self, part: str, done: float) -> None:
        """Tells how much of a part's model is here."""
        self._show(part, "running", LOADED * done, stage="loading")

    def analyse(
        self,
        choice: dict[str, Any],
        sound: Audio,
        mix: Callable[[], Audio] | None,
        backend: Backend,
        chosen: registry.Chosen,
    ) -> None:
        """Runs one part and hands its result over."""
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
        self._show(part, "running", LOADED)
        began = time.perf_counter()
        result = backend.analyze(sound, context, lambda done: self._show(part, "running", LOADED + (1 - LOADED) * done))
        labels = {"queue": QUEUE, "part": part, "model": model_name(chosen)}
        self.report.measure("model_seconds", time.perf_counter() - began, **labels)
        self.report.measure("model_audio_seconds", sound.duration, **labels)
        if isinstance(result, Beats):
            self._beats = result
        self.report.keep(part, content(result, chosen.made_by))
        self._show(part, "succeeded", 1.0)

    def fail(self, part: str, error: dict[str, Any]) -> None:
        """Notes that a part failed."""
        self._show(part, "failed", 0.0, error=error)

    def outcome(self) -> dict[str, Any]:
        """The end of the task.

        Raises:
            StemTubeError: of the first part, if no part succeeded.
        """
        if all(part["state"] == "failed" for part in self._parts.values()):
            raise KeptError(next(part["error"] for part in self._parts.values()))
        return {"parts": self._parts}

    def _show(
        self, part: str, state: str, progress: float, stage: str = "", error: dict[str, Any] | None = None
    ) -> None:
        # What is told is also told in order, so the lock is held till then.
        with self._lock:
            shown = self._parts[part]
            shown.update(state=state, progress=max(progress, shown["progress"]), error=error)
            ended = ("succeeded", "failed")
            done = sum(
                self._costs[name] * (1.0 if entry["state"] in ended else entry["progress"])
                for name, entry in self._parts.items()
            )
            fraction = DECODED + (1 - DECODED) * done / sum(self._costs.values())
            self.report(stage or part, fraction, parts={name: dict(entry) for name, entry in self._parts.items()})


def model_name(chosen: registry.Chosen) -> str:
    """What made a part, as metrics and traces name it: madmom, whisper/small."""
    return f"{chosen.backend}/{chosen.model}" if chosen.model else chosen.backend
