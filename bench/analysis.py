"""What the analysis costs: `python -m bench.analysis [SONG]`. Figures go to docs/performance.md.

Each backend and the library that it comes from hear the same song on the same machine in one run, warm (each has heard
another piece before), in a process of its own: seconds, ratio, peak memory, and how far the outputs are apart.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bench.originals import ORIGINALS, Way
from services.analysis.backends import registry
from services.analysis.backends.base import Audio, Beats, Chords, Context, Key, Result, Structure
from services.analysis.config import AnalysisSettings
from services.analysis.worker import AnalysisWork
from services.common import audio
from services.common.weights import WeightStore

SONG = Path(__file__).parents[2] / "shared" / "eval" / "lyrics" / "us_jonathan_coulton_code_monkey" / "audio.ogg"
RATE = 44_100
WARM_SECONDS = 15
BACKENDS = ("beats:madmom", "beats:librosa", "key:madmom", "chords:madmom", "chords:chordia", "structure:msaf")
TOGETHER = ("beats", "key", "chords", "structure")


def ours(name: str, models: Path) -> Way:
    """A backend from a file, decoding included."""
    part, backend_name = name.split(":")
    backend = registry.load(part, backend_name, WeightStore(models, offline=True))  # type: ignore[arg-type]

    def run(file: Path) -> Result:
        sound = Audio(audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2), RATE)
        return backend.analyze(sound, Context(), lambda _: None)

    return run


def numbers(result: Result) -> list[float]:
    """What of a result can be compared number by number."""
    match result:
        case Beats():
            return [beat.time for beat in result.beats]
        case Key():
            return [result.confidence]
        case Chords():
            return [chord.start for chord in result.chords]
        case Structure():
            return [section.start for section in result.sections]
    raise TypeError(f"{type(result).__name__} has no numbers to compare")


def together(models: Path, file: Path) -> dict[str, Any]:
    """A job of the worker with all parts of the mix as `auto` chooses them: seconds of the second one, and memory."""
    folder = models / "data"
    settings = AnalysisSettings(data_dir=folder, models_dir=models)
    work = AnalysisWork(settings)
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    for name, source in (("warm", file.with_name("warm.wav")), ("song", file)):
        (folder / "objects" / name).write_bytes(source.read_bytes())
        parts = [
            {"part": part, "asked": ["auto", "auto"], "backend": registry.names(part)[0], "model": "", "language": ""}  # type: ignore[arg-type]
            for part in TOGETHER
        ]
        began = time.perf_counter()
        outcome = work({"audio_key": name, "parts": parts, "done": {}}, _Report())
        seconds = time.perf_counter() - began
    states = {name: part["state"] for name, part in outcome["parts"].items()}
    if set(states.values()) != {"succeeded"}:
        raise RuntimeError(f"parts failed: {states}")
    return {"seconds": seconds}


class _Report:
    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        pass

    def note(self, **detail: Any) -> None:
        pass

    def keep(self, name: str, content: Any) -> None:
        pass


def child(kind: str, name: str, models: Path, file: Path) -> dict[str, Any]:
    """Measures one thing in this process."""
    warnings.simplefilter("ignore")
    if kind == "together":
        told = together(models, file)
    else:
        run = ORIGINALS[name]() if kind == "original" else ours(name, models)
        run(file.with_name("warm.wav"))
        began = time.perf_counter()
        result = run(file)
        told = {"seconds": time.perf_counter() - began, "output": numbers(result)}
    return told | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure(kind: str, name: str, models: Path, file: Path) -> dict[str, Any]:
    """The above in a process of its own."""
    arguments = [sys.executable, "-m", "bench.analysis", "--child", kind, name, str(models), str(file)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(models / "compiled")}
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def difference(one: list[float], other: list[float]) -> str:
    """How far outputs are apart: the largest difference, or their numbers if those differ."""
    if len(one) != len(other):
        return f"{len(one)} for {len(other)}"
    return f"{np.max(np.abs(np.subtract(one, other)), initial=0.0):.1e}"


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("song", type=Path, nargs="?", default=SONG)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, name, models, file = arguments.child
        print(json.dumps(child(kind, name, Path(models), Path(file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        models, file = Path(folder) / "models", Path(folder) / "song.wav"
        models.mkdir()
        mix = audio.decode(arguments.song, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2)
        audio.encode(mix, RATE, file, "wav", bits=16)
        audio.encode(
            np.ascontiguousarray(mix[:, : WARM_SECONDS * RATE]), RATE, file.with_name("warm.wav"), "wav", bits=16
        )
        print(f"{mix.shape[1] / RATE:.0f} s of music")
        print(f"{'':18}{'original, s':>12}{'MB':>7}{'ours, s':>9}{'MB':>7}{'ratio':>7}  apart")
        for name in BACKENDS:
            theirs, own = (measure(kind, name, models, file) for kind in ("original", "ours"))
            print(
                f"{name:18}{theirs['seconds']:12.1f}{theirs['memory']:7.0f}{own['seconds']:9.1f}{own['memory']:7.0f}"
                f"{own['seconds'] / theirs['seconds']:7.2f}  {difference(own['output'], theirs['output'])}",
                flush=True,
            )
        all_ = measure("together", "", models, file)
        print(f"{'all, side by side':37}{all_['seconds']:9.1f}{all_['memory']:7.0f}")


if __name__ == "__main__":
    main()
