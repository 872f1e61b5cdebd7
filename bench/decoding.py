"""Measures the share of decoding in a job's work: `python -m bench.decoding [--seconds 180] [--repeats 3]`.

Decodes a song as workers do, and reads the same samples from a file, as a worker could if they were stored. Then runs
the analysis of a mix and its separation with the small bundled model, each with its worker's own code, warm.
"""

import argparse
import asyncio
import functools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis import RATE, TOTAL, _Silent, write_song
from services.analysis.config import AnalysisSection, AnalysisSettings
from services.analysis.worker import AnalysisWork
from services.common import audio
from services.common.samples import Samples
from services.common.storage.objects import open_store
from services.separation.config import SeparationSettings
from services.separation.worker import SeparationWork

FORMATS: tuple[audio.Format, ...] = ("flac", "mp3")
MODEL = "spleeter_2stems"


def cost(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Medians of seconds and CPU seconds, including those of ended children; the first run does not count."""
    found = []
    for _ in range(repeats + 1):
        began, cpu = time.perf_counter(), _cpu_seconds()
        work()
        found.append((time.perf_counter() - began, _cpu_seconds() - cpu))
    return statistics.median(seconds for seconds, _ in found[1:]), statistics.median(cpu for _, cpu in found[1:])


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def show(name: str, figures: tuple[float, float]) -> None:
    """Prints a row."""
    print(f"{name:28}{figures[0]:8.2f}{figures[1]:8.2f}", flush=True)


def decode(path: Path) -> Samples:
    """Decodes a file as workers do."""
    with path.open("rb") as file:
        return audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2, sandbox=audio.Sandbox())


def jobs(folder: Path, key: str) -> dict[str, Callable[[], Any]]:
    """The jobs of a mix."""
    analysis = AnalysisWork(AnalysisSettings(data_dir=folder, analysis=AnalysisSection(device="cpu")))
    separation = SeparationWork(SeparationSettings(data_dir=folder))
    parts = [
        {"part": part, "asked": [name, "auto"], "backend": name, "model": "", "language": ""} for part, name in TOTAL
    ]
    split = {
        "audio_key": key,
        "prefix": "stems/bench",
        "stems": [],
        "rest": "sum",
        "shifts": 0,
        "overlap": 0.25,
        "auto": False,
        "made_by": {"model": MODEL},
    }
    return {
        "analysis": lambda: analysis({"audio_key": key, "done": {}, "parts": parts}, _Silent()),
        f"separation, {MODEL}": lambda: separation(split, _Silent()),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stemtube-bench-") as name:
        folder = Path(name)
        write_song(folder / "song.wav", arguments.seconds)
        mix = decode(folder / "song.wav")
        print(f"{arguments.seconds:g} s of music:{'s':>20}{'CPU s':>8}")
        for kind in FORMATS:
            path = folder / f"song.{kind}"
            audio.encode(mix, RATE, path, kind)
            show(f"decoding {kind}", cost(functools.partial(decode, path), arguments.repeats))
        kept = folder / "samples.npy"
        show("writing the samples", cost(lambda: np.save(kept, mix), arguments.repeats))
        show("reading the samples", cost(lambda: np.load(kept), arguments.repeats))
        asyncio.run(open_store(AnalysisSettings(data_dir=folder)).put("originals/song", folder / "song.flac"))
        for job, work in jobs(folder, "originals/song").items():
            show(job, cost(work, arguments.repeats))


if __name__ == "__main__":
    main()
