"""Measures the cost of analysis: `python -m bench.analysis [--seconds 197] [--repeats 2]`.

Compares each backend with its library, used as in that library's own program, on the same file: alternately, each in
its own warm process. Then it runs all parts of one song in the worker, warm, with the peak of its memory. It prints CPU
seconds too, because wall time means little on a machine with other work.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mir_eval
import numpy as np
import numpy.typing as npt

from bench.originals import ORIGINALS, Way
from services.analysis.backends import registry
from services.analysis.backends.base import Beats, Chords, Context, Key, Result, Structure
from services.analysis.config import AnalysisSection, AnalysisSettings
from services.analysis.worker import AnalysisWork, give_memory_back
from services.common import audio
from services.common.samples import Audio
from services.common.storage.objects import open_store
from services.common.weights.store import WeightStore

RATE = 44_100
STEP_SECONDS = 0.1
WARM_SECONDS = 12
SONG = Path(__file__).parents[2] / "shared" / "eval" / "lyrics" / "us_jonathan_coulton_code_monkey" / "audio.ogg"
COMPARED = (
    ("beats", "madmom"),
    ("beats", "librosa"),
    ("key", "madmom"),
    ("chords", "madmom"),
    ("chords", "chordia"),
    ("structure", "msaf"),
)
TOTAL = (("beats", "madmom"), ("key", "blend"), ("chords", "hybrid"), ("structure", "barwise"))
SECOND_CHORDS = (("chords", "madmom"),)

Output = npt.NDArray[Any]


def write_song(path: Path, seconds: float) -> None:
    """Writes a reference song, or the synthesised one, repeated as often as necessary."""
    if SONG.exists():
        with SONG.open("rb") as file:
            mix = audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2)
    else:
        from songs.small_songs import pop_song

        mix = pop_song(["C:maj", "A:min", "F:maj", "G:maj"] * 2).audio.samples
    length = round(seconds * RATE)
    audio.encode(np.tile(mix, -(-length // mix.shape[1]))[:, :length].copy(), RATE, path, "wav", bits=16)


def ours(part: Any, name: str) -> Way:
    """The backend; it decodes the file each time, like the libraries."""
    backend = registry.load(part, name, WeightStore(Path(tempfile.gettempdir()), offline=True))

    def run(path: Path) -> Result:
        with path.open("rb") as file:
            sound = Audio(audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2), RATE)
        return backend.analyze(sound, Context(), lambda _: None)

    return run


def output(result: Result) -> Output:
    """The values to compare: times of beats or boundaries, the key, or the chord at every tenth of a second."""
    if isinstance(result, Beats):
        return np.array([beat.time for beat in result.beats])
    if isinstance(result, Key):
        return np.array([f"{result.tonic} {result.mode}"])
    if isinstance(result, Chords):
        ends = [chord.end for chord in result.chords]
        times = np.arange(STEP_SECONDS / 2, ends[-1], STEP_SECONDS)
        labels = [_sound(chord.label) for chord in result.chords]
        return np.array([labels[i] for i in np.searchsorted(ends, times)])
    assert isinstance(result, Structure)
    return np.array([0.0, *(section.end for section in result.sections)])


def _sound(label: str) -> str:
    """A chord with one spelling for equal notes: A# is Bb."""
    root, notes, bass = mir_eval.chord.encode(label)
    return f"{root} {bass} {''.join(map(str, notes))}"


def difference(one: Output, other: Output) -> str:
    """The largest difference of two outputs, as a text."""
    if one.dtype.kind == "U":
        length = min(len(one), len(other))
        return f"{100 * np.mean(one[:length] != other[:length]):.2f} % of labels"
    if len(one) == len(other):
        return f"{np.abs(one - other).max():.1e}"
    return f"{len(one)} in place of {len(other)}"


def serve(who: str, part: str, name: str, folder: Path) -> None:
    """Runs a backend once for each line of input, and prints a line of JSON each time."""
    run = ours(part, name) if who == "ours" else ORIGINALS[f"{part}:{name}"]()
    run(folder / "warm.wav")
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        result = run(Path(line.strip()))
        seconds = (time.perf_counter() - began, time.process_time() - cpu)
        np.save(folder / f"{who}.npy", output(result))
        print(json.dumps([*seconds, peak_mb()]), flush=True)


def peak_mb() -> float:
    """The peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(part: str, name: str, folder: Path, repeats: int) -> None:
    """Prints one backend's row."""
    measured: dict[str, list[list[float]]] = {"original": [], "ours": []}
    processes = {
        who: subprocess.Popen(
            [sys.executable, "-m", "bench.analysis", "--serve", who, part, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
            # Two processes that compile the same functions at once can damage their common cache.
            env=os.environ | {"NUMBA_CACHE_DIR": str(folder / f"compiled {who}")},
            text=True,
        )
        for who in measured
    }
    for _ in range(repeats):
        for who, process in processes.items():
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{folder / 'song.wav'}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            while line and not line.startswith("["):  # libraries print, too
                line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{who} of {part} {name} ended")
            measured[who].append(json.loads(line))
    for process in processes.values():
        process.communicate()
    theirs, their_cpu, their_mb = np.median(measured["original"], axis=0)
    mine, cpu, mb = np.median(measured["ours"], axis=0)
    outputs = [np.load(folder / f"{who}.npy") for who in ("ours", "original")]
    print(
        f"{part + ' ' + name:20}{theirs:9.1f}{mine:7.1f}{mine / theirs:7.2f}{their_cpu:10.1f}{cpu:7.1f}"
        f"{cpu / their_cpu:7.2f}{their_mb:9.0f}{mb:7.0f}  {difference(*outputs)}",
        flush=True,
    )


class _Silent:
    """A report without a reader."""

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        pass

    def note(self, **detail: Any) -> None:
        pass

    def keep(self, name: str, content: Any) -> None:
        pass

    def measure(self, metric: str, value: float, **labels: str) -> None:
        pass


def total(folder: Path, repeats: int) -> None:
    """Prints the cost of all parts of a song; the second chords are a separate task with its own decode."""
    settings = AnalysisSettings(data_dir=folder, analysis=AnalysisSection(device="cpu"))
    asyncio.run(open_store(settings).put("originals/song", folder / "song.wav"))
    work = AnalysisWork(settings)
    began = time.perf_counter()
    for _ in work.preparations(_Silent()):
        pass
    print(f"\nmade ready in {time.perf_counter() - began:.1f} s, {peak_mb():.0f} MB")
    for parts in (TOTAL, SECOND_CHORDS):
        task = {
            "audio_key": "originals/song",
            "done": {},
            "parts": [
                {"part": part, "asked": [name, "auto"], "backend": name, "model": "", "language": ""}
                for part, name in parts
            ],
        }
        for number in range(repeats):
            began, cpu = time.perf_counter(), time.process_time()
            work(task, _Silent())
            print(
                f"{' + '.join(' '.join(pair) for pair in parts)}, run {number + 1}: "
                f"{time.perf_counter() - began:.1f} s, CPU {time.process_time() - cpu:.1f} s, peak {peak_mb():.0f} MB",
                flush=True,
            )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=197.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="such as beats-madmom, or total", default=[])
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--total", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        who, part, name, folder = arguments.serve
        serve(who, part, name, Path(folder))
        return
    if arguments.total:
        total(Path(arguments.total), arguments.repeats)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("NUMBA_CACHE_DIR", f"{folder}/compiled")
        for name, seconds in (("warm", WARM_SECONDS), ("song", arguments.seconds)):
            write_song(Path(folder) / f"{name}.wav", seconds)
        print(f"{arguments.seconds:g} s of music; original, ours, and ours / original; largest difference")
        print(f"{'':20}{'s':>9}{'':7}{'':7}{'CPU s':>10}{'':7}{'':7}{'MB':>9}")
        for part, name in COMPARED:
            if not arguments.only or f"{part}-{name}" in arguments.only:
                compare(part, name, Path(folder), arguments.repeats)
        if not arguments.only or "total" in arguments.only:
            give_memory_back()
            command = [sys.executable, "-m", "bench.analysis", "--total", folder, "--repeats", str(arguments.repeats)]
            subprocess.run(command, check=True, cwd=Path(__file__).parents[1])


if __name__ == "__main__":
    main()
