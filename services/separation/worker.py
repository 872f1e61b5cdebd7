"""Runs separation jobs. A child process reads the mix from the object store, splits it and stores the stems."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from services.common import audio
from services.common.compute import metrics, torch_devices
from services.common.compute.engine import Engine, Report, Work
from services.common.compute.engines import Engines
from services.common.errors import UnavailableError, WeightsMissingError
from services.common.jobs.audio import open_job_audio
from services.common.jobs.context import JobContext
from services.common.observe import tracing
from services.common.samples import Samples
from services.common.storage.marked_store import open_marked_store
from services.common.storage.objects import ObjectStore
from services.common.weights.catalogue import parse_order
from services.common.weights.store import WeightStore
from services.separation.config import SeparationSettings
from services.separation.models import registry
from services.separation.models.base import Chunk, Hardware, Options, Separator
from services.separation.stems import (
    LiveStem,
    StemFile,
    common_gain,
    live_key,
    make_stems,
    needed_sources,
    wanted_stems,
)

log = structlog.get_logger(__name__)

WARM_MODELS = 2
LABELS = {"queue": "separation", "part": "separation"}
LOADED, SEPARATED = 0.05, 0.95
PENDING_CHUNKS = 2


class SeparationWorker:
    """Runs separation jobs, one at a time on each device.

    Args:
        settings: the process's settings.
        objects: the object store.
        make_work: an importable function that makes the object that does the work, in each child.
        prove: an importable function that tests in each child whether the device computes; see `Engine`.
        make_engines: combines the engines of all devices.
    """

    def __init__(
        self,
        settings: SeparationSettings,
        objects: ObjectStore,
        make_work: Callable[[SeparationSettings], Work] | None = None,
        prove: Callable[[SeparationSettings], str] | None = None,
        make_engines: Callable[..., Engines] = Engines,
    ) -> None:
        self._objects = objects
        section = settings.separation

        def with_device(device: str) -> SeparationSettings:
            return settings.model_copy(update={"separation": section.model_copy(update={"device": device})})

        self.engines = make_engines(
            [
                (
                    device,
                    Engine(
                        f"separation-engine-{device}",
                        make_work or SeparationWork,
                        with_device(device),
                        settings.log,
                        section.idle_seconds,
                        prove=prove or prove_device,
                    ),
                )
                for device in section.devices
            ],
            with_device,
        )

    @property
    def slots(self) -> int:
        """Number of jobs at a time, if all devices can be used."""
        return len(self.engines)

    async def handle(self, job: JobContext) -> dict[str, Any]:
        """Runs one job. Each attempt has its own prefix for objects, so that attempts do not overwrite each other's."""
        prefix = f"stems/{job.job_id}/{job.lease}"

        async def separate() -> dict[str, Any]:
            # The stems are removed on any error before the step's outcome is stored. After that they are the job's.
            began = time.perf_counter()
            try:
                result = await self.engines.run(job.job_id, {**job.payload, "prefix": prefix}, job.report)
                model = result["made_by"]["model"]
                labels = {**LABELS, "model": model}
                metrics.note("model_seconds", time.perf_counter() - began, labels)
                metrics.note("model_audio_seconds", result["stems"][0]["duration_seconds"], labels)
                return result
            except BaseException:
                with contextlib.suppress(UnavailableError):  # the sweep removes them later
                    await asyncio.shield(self._objects.delete_prefix(prefix))
                raise

        return await job.step("separate", separate)

    async def close(self) -> None:
        """Ends the child processes."""
        await self.engines.close()


def prove_device(settings: SeparationSettings) -> str:
    """Tests whether the device of the settings computes; see `torch_devices.prove`."""
    return torch_devices.prove(settings.separation.device)


class SeparationWork:
    """Separates mixes in the child process. Models stay loaded between tasks."""

    def __init__(self, settings: SeparationSettings) -> None:
        self._objects = open_marked_store(settings)
        self._weights = WeightStore(settings.weights_dir, offline=settings.offline)
        # The size is not limited: the library has checked the file, and a stem can be larger than its mix.
        self._limits = audio.Limits(max_seconds=settings.limit.max_seconds, max_bytes=audio.NO_LIMITS.max_bytes)
        self._sandbox = audio.Sandbox(**settings.decoder.model_dump())
        section = settings.separation
        self._hardware = Hardware(
            torch_devices.resolve_device(section.device),
            section.precision,
            section.memory_gib,
            self._weights.root / registry.CONVERTED,
        )
        self._order = parse_order(section.auto)
        self._licences = parse_order(section.licences)
        self._models: OrderedDict[str, Separator] = OrderedDict()

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Splits one mix. `SeparationService.CreateSeparation` makes the task."""
        report("loading", 0.0)
        with _freed_memory():
            maker, model = self._choose(task, report)
            with tracing.span("decode"):
                mix = self._decode(task["audio_key"], model.sample_rate_hz)
            report("separating", LOADED)
            needed = needed_sources(wanted_stems(task["stems"], model.stems), model.stems, task["rest"])
            chunks = model.separate(
                mix,
                Options(shifts=task["shifts"], overlap=task["overlap"], stems=needed),
                lambda done: report("separating", LOADED + (SEPARATED - LOADED) * done),
            )
            with _Output(task, model, self._objects, report) as output:
                with tracing.span("separate", model=maker["model"]):
                    for chunk in chunks:
                        output.write(chunk, mix)
                del mix
                stems = output.finish()
        report("storing", 1.0, stems=stems, live=None)
        return {"stems": stems, "made_by": maker}

    def _decode(self, audio_key: str, sample_rate_hz: int) -> Samples:
        with open_job_audio(self._objects, audio_key) as source:
            return audio.decode(source, self._limits, sample_rate_hz=sample_rate_hz, channels=2, sandbox=self._sandbox)

    def _choose(self, task: dict[str, Any], report: Report) -> tuple[dict[str, str], Separator]:
        """Loads the task's model, or a substitute if the choice is automatic and the weights cannot be fetched."""
        try:
            return task["made_by"], self._model(task["made_by"]["model"], report)
        except WeightsMissingError:
            if not task["auto"]:
                raise
        choice = registry.choose(registry.AUTO, self._weights, self._order, self._licences)
        return choice.made_by, self._model(choice.entry.name, report)

    def _model(self, name: str, report: Report) -> Separator:
        if name not in self._models:
            while len(self._models) >= WARM_MODELS:
                self._models.popitem(last=False)
            began = time.perf_counter()
            with tracing.span("load model", model=name):
                self._models[name] = registry.load(
                    name, self._weights, lambda done: report("loading", LOADED * done), self._hardware
                )
            seconds = time.perf_counter() - began
            report.measure("load_seconds", seconds, **LABELS, model=name)
            log.info("model loaded", model=name, device=self._hardware.device, seconds=round(seconds, 1))
        self._models.move_to_end(name)
        return self._models[name]


class _Output:
    """Encodes and stores the stems of one task, in a thread while the next chunk is computed."""

    def __init__(self, task: dict[str, Any], model: Separator, objects: ObjectStore, report: Report) -> None:
        self._prefix = task["prefix"]
        self._rest = task["rest"]
        self._wanted = wanted_stems(task["stems"], model.stems)
        self._sample_rate_hz = model.sample_rate_hz
        self._objects = objects
        self._report = report
        self._resources = contextlib.ExitStack()
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        self._files = {
            name: self._resources.enter_context(StemFile(folder, name, self._sample_rate_hz)) for name in self._wanted
        }
        self._live = {name: LiveStem(self._sample_rate_hz, self._putter(name)) for name in self._wanted}
        self._thread = self._resources.enter_context(ThreadPoolExecutor(1))
        self._pending: list[Future[None]] = []
        self._told = 0

    def __enter__(self) -> "_Output":
        return self

    def __exit__(self, *exception: object) -> None:
        for future in self._pending:
            future.cancel()
        self._resources.__exit__(*exception)  # type: ignore[arg-type]

    def write(self, chunk: Chunk, mix: Samples) -> None:
        """Adds a chunk. Waits while too many are pending."""
        while len(self._pending) >= PENDING_CHUNKS:
            self._pending.pop(0).result()
        length = next(iter(chunk.stems.values())).shape[1]
        piece = mix[:, chunk.start : chunk.start + length]
        self._pending.append(self._thread.submit(self._write, chunk.stems, piece))
        self._tell_live()

    def finish(self) -> list[dict[str, Any]]:
        """Stores the stems, and returns the fields of `Stem` of each."""
        for future in self._pending:
            future.result()
        for live in self._live.values():
            live.finish()
        gain = common_gain(list(self._files.values()))
        stored: list[dict[str, Any]] = []
        for number, (name, file) in enumerate(self._files.items()):
            done = number / len(self._files)
            self._report("storing", SEPARATED + (1 - SEPARATED) * done, stems=list(stored))
            stored.append(self._store(name, file, gain))
        asyncio.run(self._objects.delete_prefix(self._live_prefix))
        return stored

    @property
    def _live_prefix(self) -> str:
        return f"{self._prefix}/live"

    def _write(self, stems: dict[str, Samples], mix: Samples) -> None:
        for name, piece in make_stems(stems, mix, self._wanted, self._rest).items():
            self._files[name].write(piece)
            self._live[name].write(piece)

    def _putter(self, name: str) -> Any:
        def put(number: int, data: bytes) -> None:
            key = live_key(self._live_prefix, name, number)
            asyncio.run(self._objects.put(key, data, audio.CONTENT_TYPES["flac"]))

        return put

    def _tell_live(self) -> None:
        """Reports how much of all stems can be played, if it is more than before."""
        count = min((live.count for live in self._live.values()), default=0)
        if count > self._told:
            self._told = count
            live = {
                "stems": self._wanted,
                "sample_rate_hz": self._sample_rate_hz,
                "file_samples": next(iter(self._live.values())).file_samples,
                "count": count,
                "key_prefix": self._live_prefix,
            }
            self._report.note(live=live)

    def _store(self, name: str, file: StemFile, gain: float) -> dict[str, Any]:
        audio_key, peaks_key = f"{self._prefix}/{name}.flac", f"{self._prefix}/{name}.peaks"
        with tracing.span("store stem", stem=name):
            path, peaks = file.finish(gain)
            asyncio.run(self._objects.put(audio_key, path, audio.CONTENT_TYPES["flac"]))
            path.unlink()
            asyncio.run(self._objects.put(peaks_key, peaks.to_bytes(), "application/octet-stream"))
        return {
            "name": name,
            "audio_key": audio_key,
            "duration_seconds": file.samples / self._sample_rate_hz,
            "sample_rate_hz": self._sample_rate_hz,
            "silent": file.silent,
            "peaks_key": peaks_key,
            "gain": gain,
        }


@contextlib.contextmanager
def _freed_memory() -> Iterator[None]:
    """Frees the GPU memory of a task at the end of the block, also after an error."""
    try:
        yield
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
