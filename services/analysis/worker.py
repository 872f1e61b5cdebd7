"""Runs analysis jobs: a child process decodes the audio once and runs all parts on it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np
import structlog

from services.analysis.backends import registry
from services.analysis.backends.base import Backend, BackendEntry, Context, Progress, UnusableError
from services.analysis.config import AnalysisSettings
from services.analysis.parts_run import DECODED, QUEUE, PartsRun, model_name
from services.common import audio
from services.common.compute import devices, torch_devices
from services.common.compute.engine import Engine, Report, Work
from services.common.compute.engines import Engines
from services.common.errors import (
    DeviceError,
    StemTubeError,
    StoppedError,
    WeightsMissingError,
    full_disk,
)
from services.common.jobs.audio import open_job_audio
from services.common.jobs.context import JobContext
from services.common.jobs.errors import INTERNAL_ERROR, error_detail
from services.common.observe import tracing
from services.common.parts import PARTS, Part
from services.common.samples import Audio
from services.common.storage.marked_store import AWAY_REASONS, open_marked_store
from services.common.weights.catalogue import Choice
from services.common.weights.store import WeightStore

log = structlog.get_logger(__name__)

SAMPLE_RATE_HZ = 44_100
SPEECH_RATE_HZ = 16_000
# Parts and length of sound for the preparations: long enough to compile every function that a song needs.
PREPARED_PARTS = tuple(part for part in PARTS if part != "lyrics")
PREPARED_SECONDS = 6
LARGE_BYTES = 16_000_000
ARENAS = 2


class AnalysisWorker:
    """Runs analysis jobs, one at a time.

    Args:
        settings: of the process.
        make_work: importable function that makes the `Work` in the child.
        prove: importable function that checks the device of the settings in the child, see `Engine`.
        make_engines: makes the `Engines`.
    """

    def __init__(
        self,
        settings: AnalysisSettings,
        make_work: Callable[[AnalysisSettings], Work] | None = None,
        prove: Callable[[AnalysisSettings], str] | None = None,
        make_engines: Callable[..., Engines] = Engines,
    ) -> None:
        give_memory_back()
        section = settings.analysis

        def with_device(device: str) -> AnalysisSettings:
            return settings.model_copy(update={"analysis": section.model_copy(update={"device": device})})

        device = devices.CPU if section.device == devices.AUTO and not devices.gpu_files() else section.device
        engine = Engine(
            "analysis-engine",
            make_work or AnalysisWork,
            with_device(device),
            settings.log,
            section.idle_seconds,
            AnalysisWork.preparations,
            prove or prove_device,
        )
        self.engines = make_engines([(device, engine)], with_device, prepares=section.prepare)

    async def handle(self, job: JobContext) -> dict[str, Any]:
        """Runs one job. Parts that an earlier attempt has finished are not repeated."""

        async def analyse() -> dict[str, Any]:
            task = {**job.payload, "done": await job.outputs()}
            return await self.engines.run(job.job_id, task, job.report, job.save_output)

        return await job.step("analyse", analyse)

    async def close(self) -> None:
        """Ends the child process."""
        await self.engines.close()


def prove_device(settings: AnalysisSettings) -> str:
    """Checks the device of the settings, see `torch_devices.prove`, also with the backends' own libraries."""
    device = torch_devices.prove(settings.analysis.device)
    if device.startswith("cuda"):
        registry.prove_device(device)
    return device


def keep_compiled_functions_apart(settings: AnalysisSettings) -> None:
    """Gives numba, which librosa uses, a cache folder of this process; call it before numba is imported.

    In its default folder, two processes that compile the same function at once can leave a file that crashes every
    process that loads it.
    """
    port = settings.analysis.health_listen.rpartition(":")[2]
    os.environ.setdefault("NUMBA_CACHE_DIR", str(settings.data_dir / "compiled" / port))


def give_memory_back() -> None:
    """Makes glibc in child processes that start from now on return freed large arrays to the system.

    By default it keeps blocks of up to 32 MB, in many places if there are many threads: the peak over several songs of
    197 s was 1.65 GB instead of 1.4 GB. Other allocators ignore these variables.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(LARGE_BYTES))
    os.environ.setdefault("MALLOC_ARENA_MAX", str(ARENAS))


class AnalysisWork:
    """Runs analysis tasks in the child process; backends stay loaded between tasks.

    Parts of a task run in parallel, as many as there are cores. Their slowest steps (convolutions, recurrences, Fourier
    transforms) release the GIL.
    """

    def __init__(self, settings: AnalysisSettings) -> None:
        keep_compiled_functions_apart(settings)
        self._objects = open_marked_store(settings)
        self._weights = WeightStore(settings.weights_dir, offline=settings.offline)
        # No limit of bytes: the library has checked the file, and a stem can be larger than its mix.
        self._limits = audio.Limits(max_seconds=settings.limit.max_seconds, max_bytes=audio.NO_LIMITS.max_bytes)
        self._sandbox = audio.Sandbox(**settings.decoder.model_dump())
        self._device = torch_devices.resolve_device(settings.analysis.device)
        self._language_model = settings.analysis.language_model.endpoint
        self._order = settings.analysis.auto.order
        self._backends: dict[tuple[str, str, str], Backend] = {}
        self._loading = threading.Lock()
        self._cores = _cores()

    def preparations(self, report: Report) -> Iterator[None]:
        """Loads the backends that `auto` chooses, and runs each once; yields after each backend."""
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, PREPARED_SECONDS * SAMPLE_RATE_HZ)
        # Noise that swells twice a second, and a chord: it has a pulse and pitches, so no backend ends early.
        seconds = np.arange(noise.size) / SAMPLE_RATE_HZ
        chord = sum(np.sin(2 * np.pi * hz * seconds) for hz in (131, 165, 196))
        mix = 0.2 * chord + noise * np.exp(-20 * (seconds % 0.5))
        sound = Audio(np.stack([mix, mix]).astype(np.float32), SAMPLE_RATE_HZ)
        for part in PREPARED_PARTS:
            _, backend = self._choose(
                {"part": part, "asked": (registry.AUTO, registry.AUTO)}, _ignore_progress, {}, report
            )
            backend.analyze(sound, Context(), _ignore_progress)
            log.info("part prepared", part=part)
            yield

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Analyses one audio object. See `AnalysisService.CreateAnalysis` for the task; `done` has its finished parts.

        Raises:
            StemTubeError: the audio cannot be read, or every part failed.
        """
        run = PartsRun(task["parts"], task["done"], report, self._language_model)
        wanted = [choice for choice in task["parts"] if choice["part"] not in task["done"]]
        if wanted:
            sound = self._decode(task["audio_key"], report)
            self._side_by_side(run, wanted, sound)
        return run.outcome()

    def _side_by_side(self, run: PartsRun, wanted: list[dict[str, Any]], sound: Audio) -> None:
        """Runs the parts. A part that uses others begins when these have ended.

        Raises:
            StoppedError: the task was stopped; no part is running any more.
        """
        running: dict[str, Future[None]] = {}

        def analyse(choice: dict[str, Any], needed: list[Future[None]]) -> None:
            for future in needed:
                future.result()
            self._analyse(run, choice, sound, self._mix(choice))

        with ThreadPoolExecutor(min(self._cores, len(wanted)), "part") as pool:
            # Parts that wait for others come last, so that they do not occupy threads.
            for choice in sorted(wanted, key=lambda choice: _order(choice["part"], _needs(choice))):
                needed = [running[part] for part in _needs(choice) if part in running]
                # The context makes log lines and spans of a part belong to the job.
                running[choice["part"]] = pool.submit(copy_context().run, analyse, choice, needed)
            try:
                for future in running.values():
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _decode(self, audio_key: str, report: Report) -> Audio:
        report("decoding", 0.0)
        with tracing.span("decode"), open_job_audio(self._objects, audio_key) as source:
            samples = audio.decode(
                source,
                self._limits,
                sample_rate_hz=SAMPLE_RATE_HZ,
                channels=2,
                on_progress=lambda done: report("decoding", DECODED * done),
                sandbox=self._sandbox,
            )
        return Audio(samples, SAMPLE_RATE_HZ)

    def _mix(self, choice: dict[str, Any]) -> Callable[[], Audio] | None:
        """A function that decodes the mix in the format of speech recognition; None if there is no mix."""
        if "mix_key" not in choice:
            return None

        def decode() -> Audio:
            with open_job_audio(self._objects, choice["mix_key"]) as source:
                samples = audio.decode(
                    source, self._limits, sample_rate_hz=SPEECH_RATE_HZ, channels=2, sandbox=self._sandbox
                )
            return Audio(samples, SPEECH_RATE_HZ)

        return decode

    def _analyse(self, run: PartsRun, choice: dict[str, Any], sound: Audio, mix: Callable[[], Audio] | None) -> None:
        part = choice["part"]
        failed: dict[tuple[str, str], str] = {}
        try:
            while True:
                chosen, backend = self._choose(choice, lambda done: run.show_loading(part, done), failed, run.report)
                try:
                    with tracing.span("analyse", part=part, model=model_name(chosen)):
                        return run.analyse(choice, sound, mix, backend, chosen)
                except UnusableError as error:
                    if choice["asked"][0] != registry.AUTO:
                        raise
                    failed[chosen.entry.name, chosen.model.name] = error.message
        except (StoppedError, DeviceError):
            raise
        except StemTubeError as error:
            if error.reason in AWAY_REASONS:
                raise  # the mix cannot be read now; another attempt may succeed
            run.fail(part, error_detail(error))
        except Exception as error:
            if devices.device_error(error) or full_disk(error):
                raise  # other parts would fail as well; another device or attempt does the rest
            log.exception("part failed", part=part, backend=choice["backend"])
            run.fail(part, INTERNAL_ERROR)

    def _choose(
        self, choice: dict[str, Any], progress: Progress, failed: dict[tuple[str, str], str], report: Report
    ) -> tuple[Choice[BackendEntry], Backend]:
        """The backend of a part: the named one, or the best that can be used on this device.

        Backends that cannot be used are added to `failed`.
        """
        part, (backend, model) = choice["part"], choice["asked"]
        while True:
            chosen = registry.choose(
                part, backend, model, self._weights, self._device, failed, self._language_model, self._order
            )
            try:
                return chosen, self._backend(part, chosen, progress, report)
            except WeightsMissingError as error:
                failed[chosen.entry.name, chosen.model.name] = error.message

    def _backend(self, part: Part, chosen: Choice[BackendEntry], progress: Progress, report: Report) -> Backend:
        key = (part, chosen.entry.name, chosen.model.name)
        # One at a time: some libraries can only be imported while something is put in their way (see `compat`).
        with self._loading:
            if key not in self._backends:
                progress(0.0)
                began = time.perf_counter()
                with tracing.span("load model", part=part, model=model_name(chosen)):
                    self._backends[key] = registry.load(
                        part, chosen.entry.name, self._weights, chosen.model.name, self._device, progress
                    )
                seconds = time.perf_counter() - began
                report.measure("load_seconds", seconds, queue=QUEUE, part=part, model=model_name(chosen))
                log.info(
                    "backend loaded",
                    part=part,
                    backend=chosen.entry.name,
                    model=chosen.model.name,
                    seconds=round(seconds, 1),
                )
            return self._backends[key]


def _needs(choice: dict[str, Any]) -> tuple[Part, ...]:
    return registry.entry(choice["part"], choice["backend"]).needs


def _order(part: Part, needs: tuple[Part, ...]) -> tuple[bool, bool]:
    """Sorts beats first, because other parts use them, and these other parts last."""
    return bool(needs), part != "beats"


def _cores() -> int:
    """The number of cores that networks use: OMP_NUM_THREADS, or those that this process may run on."""
    import torch

    return torch.get_num_threads()


def _ignore_progress(_done: float) -> None:
    """Ignores progress."""
