"""The separation's work: a job takes the mix from the object store, a child process splits it and stores the stems."""

import asyncio
import math
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from services.common import audio
from services.common.devices import resolve_device
from services.common.engine import Engine, Report
from services.common.errors import WeightsMissingError
from services.common.jobs import JobContext
from services.common.storage import ObjectStore
from services.separation.config import SeparationSettings
from services.separation.models import registry
from services.separation.models.base import Hardware, Progress, Samples, Separator, join
from services.separation.presets import PRESETS
from services.separation.provenance import made_by

log = structlog.get_logger(__name__)

WARM_MODELS = 2
SILENCE = 10 ** (-60 / 20)
LOADED, DECODED, SEPARATED = 0.03, 0.08, 0.90


class SeparationWorker:
    """Handles separation jobs, one at a time."""

    def __init__(self, settings: SeparationSettings, objects: ObjectStore) -> None:
        self._objects = objects
        self._engine = Engine(
            "separation-engine", SeparationWork, settings, settings.log, settings.separation.idle_seconds
        )

    async def handle(self, job: JobContext) -> dict[str, Any]:
        """Runs one job. What an attempt stores lies under a prefix of its own, so that none spoils another's."""
        prefix = f"stems/{job.job_id}/{job.lease}"
        try:
            return await job.step("separate", lambda: self._engine.run({**job.payload, "prefix": prefix}, job.report))
        except BaseException:
            await asyncio.shield(self._objects.delete_prefix(prefix))
            raise

    async def close(self) -> None:
        """Ends the child process."""
        await self._engine.close()


class SeparationWork:
    """The child process's side: models stay loaded between tasks."""

    def __init__(self, settings: SeparationSettings) -> None:
        self._objects = settings.object_store()
        self._weights = settings.weight_store()
        # Of bytes there is no limit: the library has checked the file, and a stem can be larger than its mix was.
        self._limits = audio.Limits(max_seconds=settings.limit.max_seconds, max_bytes=audio.NO_LIMITS.max_bytes)
        section = settings.separation
        self._hardware = Hardware(
            resolve_device(section.device),
            section.precision,
            section.memory_gib,
            self._weights.root / registry.CONVERTED,
        )
        self._models: OrderedDict[str, Separator] = OrderedDict()

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Splits one mix; see `SeparationService.CreateSeparation` for the task."""
        report("loading", 0.0)
        maker, model = self._choose(task, lambda done: report("loading", LOADED * done))
        report("decoding", LOADED)
        with self._objects.open(task["audio_key"]) as source:
            mix = audio.decode(
                source,
                self._limits,
                sample_rate_hz=model.sample_rate_hz,
                channels=2,
                on_progress=lambda done: report("decoding", LOADED + (DECODED - LOADED) * done),
            )
        stretches = model.separate(
            mix,
            PRESETS[task["quality"]],
            lambda done: report("separating", DECODED + (SEPARATED - DECODED) * done),
        )
        separated = join(stretches, model.stems, mix.shape[1])
        del mix
        gain = _common_gain(separated)
        wanted = [name for name in model.stems if not task["stems"] or name in task["stems"]]
        stems: list[dict[str, Any]] = []
        for number, name in enumerate(wanted):
            report("storing", SEPARATED + (1 - SEPARATED) * number / len(wanted), stems=list(stems))
            stems.append(self._store(name, separated.pop(name), model.sample_rate_hz, gain, task["prefix"]))
        report("storing", 1.0, stems=stems)
        return {"stems": stems, "made_by": maker}

    def _choose(self, task: dict[str, Any], progress: Progress) -> tuple[dict[str, str], Separator]:
        """The model of the task; of an automatic choice whose weights do not come after all, the substitute."""
        try:
            return task["made_by"], self._model(task["made_by"]["model"], progress)
        except WeightsMissingError:
            if not task["auto"]:
                raise
        choice = registry.resolve(registry.AUTO, self._weights)
        return made_by(registry.entry(choice.name, self._weights), choice.why), self._model(choice.name, progress)

    def _model(self, name: str, progress: Progress) -> Separator:
        if name not in self._models:
            while len(self._models) >= WARM_MODELS:
                self._models.popitem(last=False)
            self._models[name] = registry.load(name, self._weights, progress, self._hardware)
            log.info("model loaded", model=name, device=self._hardware.device)
        self._models.move_to_end(name)
        return self._models[name]

    def _store(self, name: str, samples: Samples, sample_rate_hz: int, gain: float, prefix: str) -> dict[str, Any]:
        if gain != 1.0:
            samples *= np.float32(gain)
        audio_key, peaks_key = f"{prefix}/{name}.flac", f"{prefix}/{name}.peaks"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stem.flac"
            audio.encode(samples, sample_rate_hz, path, "flac")
            asyncio.run(self._objects.put(audio_key, path, audio.CONTENT_TYPES["flac"]))
        peaks = audio.peaks_of(samples, sample_rate_hz).to_bytes()
        asyncio.run(self._objects.put(peaks_key, peaks, "application/octet-stream"))
        return {
            "name": name,
            "audio_key": audio_key,
            "duration_seconds": samples.shape[1] / sample_rate_hz,
            "sample_rate_hz": sample_rate_hz,
            "silent": is_silent(samples),
            "peaks_key": peaks_key,
            "gain": gain,
        }


def is_silent(stem: Samples) -> bool:
    """Whether nothing in a stem can be heard: no sample of float32 [channels, samples] reaches -60 dB of full scale."""
    return not stem.size or float(np.abs(stem).max()) < SILENCE


def _common_gain(stems: dict[str, Samples]) -> float:
    """One factor for all stems that keeps each within full scale, so that their sum stays the mix times that factor."""
    loudest = max((float(np.abs(stem).max()) for stem in stems.values() if stem.size), default=0.0)
    return 1.0 if loudest <= 1.0 or not math.isfinite(loudest) else 1.0 / loudest
