"""Measures how good stems are: `python -m bench.separation_quality [FOLDER …] [--model NAME …]`.

For each model, song and stem it prints the SDR (`songs/sdr.py` defines it) beside the seconds that the song took, as a
table in Markdown. In brackets is the SDR of the mix itself as the estimate, from which every model starts. Each FOLDER
is a song: `mix.*` or `mixture.*`, and its true stems, `vocals.*` for instance, beside it or in `stems/`. Without
folders, the song that the project makes is measured. The figures are in docs/performance.md.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.common import audio
from services.common.config import Settings, load
from services.common.errors import WeightsMissingError
from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Hardware, Options, Separator, join
from services.separation.presets import PRESETS
from songs.sdr import comparable, median_sdr, sdr, sum_of
from stemtube.separation.v1 import separation_pb2 as pb

RATE = 44_100
MIX_NAMES = ("mix", "mixture")
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
QUALITIES = {
    "fast": PRESETS[pb.QUALITY_FAST],
    "balanced": PRESETS[pb.QUALITY_BALANCED],
    "best": PRESETS[pb.QUALITY_BEST],
}


@dataclass(frozen=True)
class Song:
    """A song with its true stems, float32 [2, samples] at 44.1 kHz each."""

    name: str
    mix: Samples
    stems: dict[str, Samples]

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.mix.shape[1]) / RATE

    def cut(self, start: float, end: float) -> "Song":
        """The passage between two times in seconds; an `end` of 0 is that of the song."""
        part = slice(round(start * RATE), round(end * RATE) or None)
        return Song(self.name, self.mix[:, part], {name: stem[:, part] for name, stem in self.stems.items()})


def read_song(folder: Path) -> Song:
    """Reads a song and its stems from a folder.

    Raises:
        ValueError: there are no stems in it, or they are not as long as the mix.
    """
    paths = sorted(path for place in (folder, folder / "stems") if place.is_dir() for path in place.iterdir())
    files = {path.stem: _decode(path) for path in paths if path.suffix in SUFFIXES}
    mixes = [files.pop(name) for name in MIX_NAMES if name in files]
    if not files:
        raise ValueError(f"there are no stems in {folder}: name them vocals.wav, drums.wav, …")
    length = max(stem.shape[1] for stem in [*mixes[:1], *files.values()])
    stems = {name: _padded(stem, length) for name, stem in files.items()}
    mix = _padded(mixes[0], length) if mixes else sum_of(stems.values())
    return Song(folder.name, mix, stems)


def made_song() -> Song:
    """The song that the project makes, of 79 s, with drums, bass, other and singing."""
    from songs.song import demo_song

    song = demo_song()
    return Song("Morning Light", song.mix, dict(song.stems))


def _decode(path: Path) -> Samples:
    with path.open("rb") as file:
        return audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2)


def _padded(samples: Samples, length: int) -> Samples:
    return np.pad(samples, ((0, 0), (0, length - samples.shape[1])))


def warm_up(separator: Separator, song: Song, options: Options) -> None:
    """Has the network compiled, which the first song does, so that no song's time includes it."""
    next(iter(separator.separate(song.mix, options, lambda _: None)), None)


def measure(name: str, separator: Separator, songs: Sequence[Song], options: Options) -> list[float]:
    """Prints a row for each song; returns the SDR of all stems of all songs."""
    every = []
    warm_up(separator, songs[0], options)
    for song in songs:
        began = time.perf_counter()
        stems = join(separator.separate(song.mix, options, lambda _: None), separator.stems)
        seconds = time.perf_counter() - began
        cells = []
        for stem, (true, estimate) in comparable(song.stems, stems).items():
            value, start = sdr(true, estimate), sdr(true, song.mix)
            every.append(value)
            cells.append(f"{stem} {value:.2f} ({start:.1f}), {median_sdr(true, estimate, RATE):.2f}")
        print(f"| {name} | {song.name}, {song.seconds:.0f} s | {'; '.join(cells)} | {seconds:.1f} |", flush=True)
    return every


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="songs; else the one that the project makes")
    parser.add_argument("--model", action="append", default=[], help="a model; more than once for several")
    parser.add_argument("--quality", action="append", choices=list(QUALITIES), default=[], help="as in a request")
    parser.add_argument("--precision", action="append", default=[], help="float32, bfloat16, float16 or auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--start", type=float, default=0.0, help="measure from this second on")
    parser.add_argument("--end", type=float, default=0.0, help="measure up to this second")
    parser.add_argument("--models-dir", type=Path, help="weights; else those of the data directory")
    arguments = parser.parse_args()
    store = WeightStore(arguments.models_dir or load(Settings).weights_dir)
    songs = [read_song(folder) for folder in arguments.folders] or [made_song()]
    songs = [song.cut(arguments.start, arguments.end) for song in songs]
    print(f"{os.cpu_count()} CPUs, {arguments.device}. SDR of the whole song (of the mix), median of 1 s, in dB.\n")
    print("| model | song | stems | seconds |\n|---|---|---|---|")
    for name in arguments.model or [registry.choose(registry.AUTO, store).entry.name, "spleeter_2stems"]:
        for precision in arguments.precision or ["auto"]:
            hardware = Hardware(arguments.device, precision, 0.0, store.root / registry.CONVERTED)
            try:
                separator = registry.load(name, store, hardware=hardware)
            except WeightsMissingError as error:
                print(f"| {name} | | {error.message} | |")
                break
            for quality in arguments.quality or ["balanced"]:
                values = measure(f"{name}, {precision}, {quality}", separator, songs, QUALITIES[quality])
                if len(values) > 1:
                    print(f"| {name}, {precision}, {quality} | mean | {statistics.fmean(values):.2f} | |")


if __name__ == "__main__":
    main()
