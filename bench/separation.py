"""Measures separation: `python -m bench.separation [--seconds 60] [--device cpu] [--model NAME]`.

In one run, with the same music and the same full-size HTDemucs with random weights, it measures demucs' command line,
its `apply_model` with a warm model, and our separator: cold (a process that starts, loads, separates) and warm, in
float32 and in the precision of `auto`. The figures are in docs/performance.md. `--model` measures only that model,
warm, beside our HTDemucs in float32, and computes its `cost`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from services.common import audio
from services.common.samples import Samples
from services.separation.models.base import Hardware, Options

RATE = 44_100
SIGNATURE = "a1b2c3d4"
SONG = Path(__file__).parents[2] / "shared" / "eval" / "lyrics" / "us_jonathan_coulton_code_monkey" / "audio.ogg"
GFLOP_PER_SEGMENT = 224  # as measured by torch's counter, for 7.8 s of stereo
OVERLAP = 0.25


def write_model(folder: Path) -> None:
    """Writes the model as a local demucs repository, in float32."""
    import torch
    from demucs.htdemucs import HTDemucs
    from demucs.states import get_state, save_with_checksum
    from demucs.transformer import LayerScale

    torch.manual_seed(0)
    model = HTDemucs(
        sources=["drums", "bass", "other", "vocals"],
        samplerate=RATE,
        segment=Fraction(39, 5),
        bottom_channels=512,
        t_layers=5,
    )
    for module in model.modules():  # the initial 1e-4 would disable the transformer and hide half precision's errors
        if isinstance(module, LayerScale):
            module.scale.data.uniform_(0.1, 0.5)
    args, kwargs = model._init_args_kwargs
    package = {"klass": HTDemucs, "args": args, "kwargs": kwargs, "state": get_state(model, None, half=False)}
    save_with_checksum(package | {"training_args": {}}, folder / f"{SIGNATURE}.th")


def write_song(path: Path, seconds: float) -> Samples:
    """Writes a minute of the reference song, or noise with a spectrum like music."""
    samples = int(seconds * RATE)
    if SONG.exists():
        with SONG.open("rb") as file:
            mix = audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2)[
                :, 10 * RATE : 10 * RATE + samples
            ].copy()
    else:
        white = np.random.default_rng(0).standard_normal((2, samples + 63))
        mix = np.stack([np.convolve(row, np.ones(64) / 80, "valid") for row in white]).astype(np.float32)
    audio.encode(mix, RATE, path, "wav", bits=32)
    return mix


def matrix_peak(device: str, kind: str) -> float:
    """GFLOP/s of square matrix products."""
    import torch

    size = 4096 if device != "cpu" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, kind)) for _ in range(2))

    def run() -> None:
        (a @ b).sum().item()

    run()
    return 2 * size**3 / 1e9 / min(timed(run) for _ in range(5))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def command(arguments: list[str]) -> tuple[float, float]:
    """Runs a command; returns seconds and peak memory (MB) of the process and its children."""
    began = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{arguments[:4]} ended with {status}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def ours(models: Path, song: Path, device: str, precision: str, repeats: int, name: str) -> dict[str, Any]:
    """Loads a model and separates `repeats` times; returns seconds and memory. Runs in its own process."""
    from services.common.weights.store import WeightStore
    from services.separation.models import registry

    began = time.perf_counter()
    hardware = Hardware(device, precision, 0.0, models / registry.CONVERTED)
    separator = registry.load(name, WeightStore(models, offline=name == SIGNATURE), hardware=hardware)
    loaded = time.perf_counter() - began
    with song.open("rb") as file:
        mix = audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2)
    seconds = []
    for number in range(repeats):
        began = time.perf_counter()
        stems: dict[str, list[Samples]] = {name: [] for name in separator.stems}
        for chunk in separator.separate(mix, Options(overlap=OVERLAP), lambda _: None):
            if number == 0:
                for name, piece in chunk.stems.items():
                    stems[name].append(piece)
        seconds.append(time.perf_counter() - began)
        if number == 0:
            np.save(models / f"{precision}.npy", np.stack([np.concatenate(parts, 1) for parts in stems.values()]))
            del stems
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"load": loaded, "seconds": seconds, "memory": memory}


def run_ours(
    models: Path, song: Path, device: str, precision: str, repeats: int, name: str = SIGNATURE
) -> tuple[float, dict[str, Any]]:
    """Runs `ours` as a process; returns its seconds from start to end, and its result."""
    arguments = [sys.executable, "-m", "bench.separation", "--child", str(models), str(song), device, precision]
    began = time.perf_counter()
    done = subprocess.run([*arguments, str(repeats), name], check=True, capture_output=True, text=True)
    return time.perf_counter() - began, json.loads(done.stdout.splitlines()[-1])


def apply_model_warm(models: Path, mix: Samples, device: str, repeats: int) -> tuple[float, Samples]:
    """Median seconds of `demucs.apply.apply_model`, and its stems at the mix's level."""
    import torch
    from demucs.apply import apply_model
    from demucs.pretrained import get_model

    model = get_model(SIGNATURE, repo=models / "demucs").eval()
    wave = torch.tensor(mix)
    mean, deviation = wave.mean(0).mean(), wave.mean(0).std() + 1e-8
    batch = ((wave - mean) / deviation)[None]
    stems: list[Any] = []

    def run() -> None:
        stems[:] = [apply_model(model, batch, shifts=0, overlap=OVERLAP, device=device)]

    seconds = statistics.median(timed(run) for _ in range(repeats))
    return seconds, (stems[0][0] * deviation + mean).numpy()


def decibel(stems: Samples, expected: Samples) -> float:
    """The error of `stems`, relative to `expected`."""
    return 20 * float(np.log10(np.linalg.norm(stems - expected) / np.linalg.norm(expected) + 1e-12))


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", help="measure only this model")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        models, song, device, precision, repeats, name = arguments.child
        print(json.dumps(ours(Path(models), Path(song), device, precision, int(repeats), name)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model:
            compare(Path(folder), arguments.model, arguments.seconds, arguments.device, arguments.repeats)
        else:
            measure(Path(folder), arguments.seconds, arguments.device, arguments.repeats)


def compare(models: Path, name: str, seconds: float, device: str, repeats: int) -> None:
    """Measures one model, warm, beside `htdemucs` in float32, whose time is the unit of `ModelEntry.cost`."""
    (models / "demucs").mkdir()
    write_model(models / "demucs")
    song = models / "song.wav"
    write_song(song, seconds)
    took: dict[str, float] = {}
    for model in (SIGNATURE, name):
        _, figures = run_ours(models, song, device, "float32", repeats + 1, model)
        took[model] = statistics.median(figures["seconds"][1:])
        label = "htdemucs" if model == SIGNATURE else model
        speed, cost = seconds / took[model], took[model] / took[SIGNATURE]
        print(f"{label}: {took[model]:.2f} s, {speed:.1f} x real time, {figures['memory']:.0f} MB, cost {cost:.2f}")


def measure(models: Path, seconds: float, device: str, repeats: int) -> None:
    """Measures everything once."""
    (models / "demucs").mkdir()
    write_model(models / "demucs")
    song = models / "song.wav"
    mix = write_song(song, seconds)
    segments = -(-mix.shape[1] // int((1 - OVERLAP) * int(7.8 * RATE)))
    peaks = {kind: matrix_peak(device, kind) for kind in ("float32", "bfloat16")}
    print(
        f"{seconds:g} s of music, {segments} segments, on {device}; matrix products: "
        + ", ".join(f"{kind} {peak:.0f} GFLOP/s" for kind, peak in peaks.items())
    )
    print(f"{'':34}{'s':>8}{'x real time':>13}{'GFLOP/s':>9}{'MB':>7}{'of the command line':>21}{'error':>10}")

    def row(name: str, took: float, memory: float | None, error: str = "") -> None:
        speed = GFLOP_PER_SEGMENT * segments / took
        size = f"{memory:.0f}" if memory else ""
        print(
            f"{name:34}{took:8.1f}{seconds / took:13.1f}{speed:9.0f}{size:>7}{took / line:21.2f}{error:>10}", flush=True
        )

    demucs = [sys.executable, "-m", "demucs.separate", "--repo", str(models / "demucs"), "-n", SIGNATURE]
    line, memory = command([*demucs, "--shifts", "0", "-d", device, "-o", str(models / "out"), str(song)])
    row("demucs, command line", line, memory)
    warm, expected = apply_model_warm(models, mix, device, repeats)
    row("demucs, apply_model, warm", warm, None)
    for precision in ("float32", "auto"):
        first, figures = run_ours(models, song, device, precision, 1)
        row(f"ours, {precision}, first song ever", first, figures["memory"])
        _, figures = run_ours(models, song, device, precision, 2)  # by its second song the network has been converted
        row(f"ours, {precision}, song with conversion", figures["seconds"][1], figures["memory"])
        cold, figures = run_ours(models, song, device, precision, 1)
        row(f"ours, {precision}, cold", cold, figures["memory"])
        _, figures = run_ours(models, song, device, precision, repeats + 1)
        error = f"{decibel(np.load(models / f'{precision}.npy'), expected):.0f} dB"
        row(f"ours, {precision}, warm", statistics.median(figures["seconds"][1:]), figures["memory"], error)


if __name__ == "__main__":
    main()
