"""A separation worker whose device a test breaks: `python -m tests.separation.device_worker DEVICE`.

The settings are the process's; DEVICE names it, and files in DATA_DIR break it: `DEVICE.gone` (no proof succeeds),
`DEVICE.once` (the next song fails), `DEVICE.broken` (each song fails, though the proof succeeds), `DEVICE.small` (a
song whose key begins with "long" does not fit). Each finished song adds a line to DATA_DIR/done.
"""

import asyncio
import functools
import sys
import time
from pathlib import Path
from typing import Any

from services.common.compute.engine import Report
from services.common.compute.engines import Engines
from services.common.jobs.queue import JobQueue
from services.common.observe.telemetry import configure_logging
from services.common.rpc.draining import Draining
from services.common.rpc.runtime import VerifiedCallers, run_with_jobs
from services.common.storage.objects import open_store
from services.separation.config import SeparationSettings
from services.separation.service import KIND
from services.separation.worker import SeparationWorker

SONG_SECONDS = 0.3


def prove(settings: SeparationSettings) -> str:
    if _breaks(settings, "gone").exists():
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")
    return settings.separation.device


class Work:
    def __init__(self, settings: SeparationSettings) -> None:
        self._settings = settings

    def __call__(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        import torch

        report("separating", 0.5)
        time.sleep(SONG_SECONDS)
        if _breaks(self._settings, "broken").exists():
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        if (once := _breaks(self._settings, "once")).exists():
            once.unlink()
            raise RuntimeError("CUDA error: unspecified launch failure")
        if _breaks(self._settings, "small").exists() and task["audio_key"].startswith("long"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        with (self._settings.data_dir / "done").open("a") as file:
            file.write(f"{self._settings.separation.device} {task['audio_key']}\n")
        stem = {"name": "vocals", "audio_key": f"{task['prefix']}/vocals.flac", "duration_seconds": 1.0}
        return {"stems": [stem], "made_by": task["made_by"]}


def _breaks(settings: SeparationSettings, how: str) -> Path:
    return settings.data_dir / f"{settings.separation.device}.{how}"


async def main() -> None:
    settings = SeparationSettings()
    configure_logging(settings.log, sys.argv[1])
    section = settings.separation
    make_engines = functools.partial(Engines, rest_seconds=(0.2, 0.5, 1.0, 2.0), try_seconds=(0.2,))
    worker = SeparationWorker(settings, open_store(settings), Work, prove, make_engines)
    jobs = JobQueue(settings.database_url, "separation", handlers={KIND: worker.handle}, slots=worker.slots)
    await run_with_jobs(
        VerifiedCallers(settings, "separation"),
        jobs,
        worker,
        None,
        listen=section.listen,
        health_listen=section.health_listen,
        draining=Draining(),
        grace_seconds=0,
        engines=worker.engines,
    )


if __name__ == "__main__":
    asyncio.run(main())
