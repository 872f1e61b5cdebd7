"""The analysis' work: a child process decodes the audio once and runs the parts on it."""

from typing import Any

import structlog

from services.analysis.backends import registry
from services.analysis.backends.base import Audio, Backend, Beats, Context, Part, Result
from services.analysis.config import AnalysisSettings
from services.analysis.contents import content
from services.common import audio
from services.common.devices import resolve_device
from services.common.engine import Engine, Report
from services.common.errors import StemTubeError, StoppedError
from services.common.jobs import INTERNAL_ERROR, JobContext, KeptError, error_detail

log = structlog.get_logger(__name__)

SAMPLE_RATE_HZ = 44_100
DECODED = 0.05


class AnalysisWorker:
    """Handles analysis jobs, one at a time."""

    def __init__(self, settings: AnalysisSettings) -> None:
        self._engine = Engine("analysis-engine", AnalysisWork, settings, settings.log, settings.analysis.idle_seconds)

    async def handle(self, job: JobContext) -> dict[str, Any]:
        """Runs one job."""
        return await job.step("analyse", lambda: self._engine.run(job.payload, job.report, job.save_output))

    async def close(self) -> None:
        """Ends the child process."""
        await self._engine.close()


class AnalysisWork:
    """The child process's side: backends stay loaded between tasks."""

    def __init__(self, settings: AnalysisSettings) -> None:
        self._objects = settings.object_store()
        self._weights = settings.weight_store()
        # Of bytes there is no limit: the library has checked the file, and a stem can be larger than its mix was.
        self._limits = audio.Limits(max_seconds=settings.limit.max_seconds, max_bytes=audio.NO_LIMITS.max_bytes)
        self._device = resolve_device(settings.analysis.device)
        self._backends: dict[tuple[str, str, str], Backend] = {}

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Analyses one audio object; see `AnalysisService.CreateAnalysis` for the task.

        Raises:
            StemTubeError: the audio cannot be read, or every part failed.
        """
        report("decoding", 0.0)
        with self._objects.open(task["audio_key"]) as source:
            samples = audio.decode(
                source,
                self._limits,
                sample_rate_hz=SAMPLE_RATE_HZ,
                channels=2,
                on_progress=lambda done: report("decoding", DECODED * done),
            )
        run = _Run(Audio(samples, SAMPLE_RATE_HZ), task["parts"], report)
        for choice in sorted(task["parts"], key=lambda choice: _order(choice["part"])):
            try:
                run.analyse(choice, self._backend(choice))
            except StoppedError:
                raise
            except StemTubeError as error:
                run.fail(choice["part"], error_detail(error))
            except Exception:
                log.exception("part failed", part=choice["part"], backend=choice["backend"])
                run.fail(choice["part"], INTERNAL_ERROR)
        return run.outcome()

    def _backend(self, choice: dict[str, Any]) -> Backend:
        key = (choice["part"], choice["backend"], choice["model"])
        if key not in self._backends:
            self._backends[key] = registry.load(*key[:2], self._weights, choice["model"], self._device)
            log.info("backend loaded", part=key[0], backend=key[1], model=key[2])
        return self._backends[key]


class _Run:
    """The parts of one task."""

    def __init__(self, sound: Audio, choices: list[dict[str, Any]], report: Report) -> None:
        self._sound = sound
        self._report = report
        self._costs = {choice["part"]: registry.entry(choice["part"], choice["backend"]).cost for choice in choices}
        self._parts: dict[str, dict[str, Any]] = {
            choice["part"]: {"state": "queued", "progress": 0.0, "error": None} for choice in choices
        }
        self._results: dict[str, Result] = {}

    def analyse(self, choice: dict[str, Any], backend: Backend) -> None:
        """Runs one part and hands its result over."""
        part = choice["part"]
        beats = self._results.get("beats")
        context = Context(beats if isinstance(beats, Beats) else None, {"language": choice["language"]})
        self._show(part, "running", 0.0)
        result = backend.analyze(self._sound, context, lambda done: self._show(part, "running", done))
        self._results[part] = result
        self._report.keep(part, content(result, choice["made_by"]))
        self._show(part, "succeeded", 1.0)

    def fail(self, part: str, error: dict[str, Any]) -> None:
        """Notes that a part failed."""
        self._parts[part]["error"] = error
        self._show(part, "failed", self._parts[part]["progress"])

    def outcome(self) -> dict[str, Any]:
        """The end of the task.

        Raises:
            StemTubeError: of the first part, if no part succeeded.
        """
        if not self._results:
            raise KeptError(next(part["error"] for part in self._parts.values()))
        return {"parts": self._parts}

    def _show(self, part: str, state: str, progress: float) -> None:
        shown = self._parts[part]
        shown["state"], shown["progress"] = state, max(progress, shown["progress"])
        ended = ("succeeded", "failed")
        done = sum(
            self._costs[name] * (1.0 if entry["state"] in ended else entry["progress"])
            for name, entry in self._parts.items()
        )
        fraction = DECODED + (1 - DECODED) * done / sum(self._costs.values())
        self._report(part, fraction, parts={name: dict(entry) for name, entry in self._parts.items()})


def _order(part: Part) -> int:
    """Beats first, which others use."""
    return 0 if part == "beats" else 1
