"""Measures the accuracy of keys for each kind: `python -m bench.keys [--backends blend,madmom,librosa] [--seeds 2]`.

Renders the songs of `songs.key_songs` and prints for each kind the MIREX weighted score of the song's key. For songs
with changes of key it also prints the share of time with the right key; a backend without changes has one key for this.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import mir_eval
import numpy as np

from services.analysis.backends import registry
from services.analysis.backends.base import Context, Key
from services.analysis.backends.key.profiles import MAJOR_TONICS
from services.common.weights.store import WeightStore
from songs.key_songs import KeySong, key_songs


def score(song: KeySong, found: Key) -> float:
    """MIREX weighted score."""
    _, tonic, mode = song.regions[0]
    estimated = f"{found.tonic} {found.mode}" if found.tonic else "X"
    return float(mir_eval.key.evaluate(f"{MAJOR_TONICS[tonic]} {mode}", estimated)["Weighted Score"])


def overlap(song: KeySong, found: Key) -> float:
    """Share of time with the right key."""
    ends = [start for start, _, _ in song.regions[1:]] + [song.audio.duration]
    right = 0.0
    for (start, tonic, mode), end in zip(song.regions, ends, strict=True):
        for region in found.regions:
            estimated = f"{region.tonic} {region.mode}"
            if mir_eval.key.evaluate(f"{MAJOR_TONICS[tonic]} {mode}", estimated)["Weighted Score"] == 1.0:
                right += max(0.0, min(end, region.end) - max(start, region.start))
    return right / song.audio.duration


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backends", default=",".join(registry.names("key")))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    names = options.backends.split(",")
    store = WeightStore(Path(tempfile.mkdtemp()), offline=True)
    backends = {name: registry.load("key", name, store) for name in names}
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(options.seeds):
        for song in key_songs(100 + seed):
            for name, backend in backends.items():
                found = backend.analyze(song.audio, Context(), lambda _: None)
                assert isinstance(found, Key)
                rows = {song.kind: score(song, found), "all": score(song, found)}
                if len(song.regions) > 1:
                    rows |= {f"{song.kind}, time": overlap(song, found), "all changes, time": overlap(song, found)}
                else:
                    rows["one key, time"] = overlap(song, found)
                for row, value in rows.items():
                    scores[row][name].append(value)
    print(f"{'':40}", *(f"{name:>8}" for name in names))
    for row, values in scores.items():
        print(f"{row:40}", *(f"{np.mean(values[name]):8.2f}" for name in names), f"  {len(values[names[0]])}")


if __name__ == "__main__":
    main()
