"""Measures the accuracy of the analysis: `python -m bench.accuracy [--parts beats,key …] [--synthetic] [--write]`.

Runs every backend, and its library's own method, on the reference songs beside the project (../shared/eval; `--songs`
names another folder of the same form), scores both with mir_eval, and prints tables. `--backends` runs only those
named; `--synthetic` adds beats and chords of the songs of `songs.beat_songs` and chords of those of
`songs.chord_songs`; `--write` writes everything to docs/accuracy.md. Results are cached by song and version in the
system's temporary folder, so a second run computes only changes.
"""

import argparse
import hashlib
import json
import os
import pickle
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import mir_eval
import numpy as np

from bench.originals import ORIGINALS
from services.analysis.backends import registry
from services.analysis.backends.base import Beats, Chords, Context, Key, Lyrics, Result, Structure, Tuning
from services.common import audio
from services.common.parts import PARTS
from services.common.samples import Audio
from services.common.weights.store import WeightStore
from services.separation.models import registry as separation
from services.separation.models.base import Options, join
from songs import beat_songs as synthesis
from songs import chord_names, chord_songs, key_songs, styles

SONGS = Path(__file__).parents[2] / "shared" / "eval"
REPORT = Path(__file__).parents[1] / "docs" / "accuracy.md"
KEPT = Path(tempfile.gettempdir()) / "stemtube-accuracy"
RATE = 44_100
TEMPO_TOLERANCE = 0.04  # of the tempo, as in MIREX
WORD_SECONDS = 0.3
ROUNDING_SECONDS = 1e-6
CHORD_SONGS_SEED = 100  # parameters were fitted with other seeds

Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Song:
    """A reference song: its name, its audio, the truth in its file, and the group in which it is shown."""

    name: str
    file: Path
    truth: dict[str, Any]
    group: str


def songs(folder: Path) -> list[Song]:
    """The reference songs below a folder."""
    found = []
    for path in sorted(folder.glob("*/*/truth.json")):
        files = [file for name in ("mix", "audio") for file in path.parent.glob(f"{name}.*")]
        if files:
            name = path.parent.name
            found.append(Song(name, files[0], json.loads(path.read_text()), name))
    return found


def synthetic_songs() -> list[Song]:
    """The songs of `songs.beat_songs`, rendered once for each version of their recipes."""

    def sound_and_truth(recipe: styles.Recipe) -> tuple[np.ndarray, int, dict[str, Any]]:
        song = synthesis.render(recipe)
        beats = {"beats": song.beats.tolist(), "downbeats": song.downbeats.tolist(), "tempo_bpm": song.bpm}
        return song.mix[None], RATE, {**beats, "chords": _entries(song.chords)}

    version = _version(synthesis, styles)
    return [
        _made(f"{version} {recipe}", recipe.name, recipe.category, partial(sound_and_truth, recipe))
        for recipe in synthesis.recipes()
    ]


def songs_of_chords(seed: int = CHORD_SONGS_SEED) -> list[Song]:
    """The songs of `songs.chord_songs`, rendered in the same way."""
    version = _version(chord_songs, chord_names, key_songs)
    found = []
    for number, song in enumerate(chord_songs.chord_songs(seed)):
        made = (song.audio.samples, song.audio.sample_rate_hz, {"chords": _entries(song.chords)})
        found.append(_made(f"{version} {seed} {number}", f"{song.kind} {number}", song.kind, lambda made=made: made))  # type: ignore[misc]
    return found


def _version(*modules: ModuleType) -> str:
    return str([_digest(Path(str(module.__file__))) for module in modules])


def _entries(chords: Iterable[chord_songs.TimedChord]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "label": label} for start, end, label in chords]


def _made(recipe: str, name: str, group: str, make: Callable[[], tuple[np.ndarray, int, dict[str, Any]]]) -> Song:
    """A song as files, which are made if they are missing."""
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    sound, truth = KEPT / f"{digest}.flac", KEPT / f"{digest}.json"
    if not truth.exists():
        mix, rate, known = make()
        audio.encode(mix, rate, sound, "flac")
        truth.write_text(json.dumps(known))
    return Song(name, sound, json.loads(truth.read_text()), group)


def score_beats(truth: dict[str, Any], found: Result) -> Scores:
    """F and continuity of beats, F of downbeats, and whether the tempo is right (Acc1), or an octave of it (Acc2)."""
    assert isinstance(found, Beats)
    reference = mir_eval.beat.trim_beats(np.array(truth["beats"], float))
    estimated = mir_eval.beat.trim_beats(np.array([beat.time for beat in found.beats]))
    _, cmlt, _, amlt = mir_eval.beat.continuity(reference, estimated)
    scores = {"beats F": mir_eval.beat.f_measure(reference, estimated), "CMLt": cmlt, "AMLt": amlt}
    if "downbeats" in truth and any(beat.position for beat in found.beats):
        reference = mir_eval.beat.trim_beats(np.array(truth["downbeats"], float))
        estimated = mir_eval.beat.trim_beats(np.array([beat.time for beat in found.beats if beat.position == 1]))
        scores["downbeats F"] = mir_eval.beat.f_measure(reference, estimated)
    tempo: float = truth.get("tempo_bpm") or truth.get("bpm_stated") or 0.0
    if (tempo and "beats" in truth) or "bpm_stated" in truth:
        near = [
            abs(found.bpm - tempo * factor) <= TEMPO_TOLERANCE * tempo * factor for factor in (1, 2, 1 / 2, 3, 1 / 3)
        ]
        scores |= {"Acc1": float(near[0]), "Acc2": float(any(near))}
    return scores


def score_key(truth: dict[str, Any], found: Result) -> Scores:
    """MIREX' weighted score."""
    assert isinstance(found, Key)
    key = truth["key"]
    estimated = f"{found.tonic} {found.mode}" if found.tonic else "X"
    return {"key": mir_eval.key.evaluate(f"{key['tonic']} {key['mode']}", estimated)["Weighted Score"]}


def score_chords(truth: dict[str, Any], found: Result) -> Scores:
    """Overlap by time of chords (majmin, sevenths, mirex) and of segments."""
    assert isinstance(found, Chords)
    reference = _intervals(truth["chords"])
    # mir_eval refuses a segment that reaches into the reference only by a rounding error.
    chords = [chord for chord in found.chords if chord.start < reference[0][-1, 1] - ROUNDING_SECONDS]
    intervals = np.array([[chord.start, chord.end] for chord in chords])
    scores = mir_eval.chord.evaluate(*reference, intervals, [chord.label for chord in chords])
    return {name: float(scores[name]) for name in ("majmin", "sevenths", "mirex", "seg")}


def score_structure(truth: dict[str, Any], found: Result) -> Scores:
    """F of boundaries within 0.5 s and 3 s, and of pairs of frames in equal sections."""
    assert isinstance(found, Structure)
    reference = _intervals(truth["sections"])
    estimated = (
        np.array([[section.start, section.end] for section in found.sections]),
        [section.label for section in found.sections],
    )
    scores = mir_eval.segment.evaluate(*reference, *estimated)
    return {
        "F 0.5 s": float(scores["F-measure@0.5"]),
        "F 3 s": float(scores["F-measure@3.0"]),
        "pairwise F": float(scores["Pairwise F-measure"]),
    }


def score_lyrics(truth: dict[str, Any], found: Result) -> Scores:
    """Word error rate; for correct words the mean error of their onsets, and the share within 0.3 s."""
    assert isinstance(found, Lyrics)
    reference = [(word, entry["start"]) for entry in truth["words"] for word in _plain(entry["word"])]
    estimated = [(text, word.start) for line in found.lines for word in line.words for text in _plain(word.text)]
    errors, pairs = _align([word for word, _ in reference], [word for word, _ in estimated])
    late = np.array([estimated[j][1] - reference[i][1] for i, j in pairs])
    scores = {"word errors": errors / max(1, len(reference))}
    if len(late):
        scores |= {
            "onset error, s": float(np.mean(np.abs(late))),
            "within 0.3 s": float(np.sum(np.abs(late) <= WORD_SECONDS)) / max(1, len(reference)),
        }
    return scores


def _intervals(entries: list[dict[str, Any]]) -> tuple[np.ndarray, list[str]]:
    return (
        np.array([[entry["start"], entry["end"]] for entry in entries], float),
        [str(entry["label"]) for entry in entries],
    )


def _plain(text: str) -> list[str]:
    """Words in lower case without punctuation."""
    return re.sub(r"[^\w\s]", "", text.lower().replace("\u2019", "'").replace("'", "").replace("-", " ")).split()


def _align(reference: list[str], estimated: list[str]) -> tuple[int, list[tuple[int, int]]]:
    """The fewest substitutions, insertions and deletions (Levenshtein), and the pairs of words that are equal."""
    costs = np.zeros((len(reference) + 1, len(estimated) + 1), int)
    costs[:, 0], costs[0] = np.arange(len(reference) + 1), np.arange(len(estimated) + 1)
    for i, word in enumerate(reference, 1):
        for j, other in enumerate(estimated, 1):
            costs[i, j] = min(costs[i - 1, j] + 1, costs[i, j - 1] + 1, costs[i - 1, j - 1] + (word != other))
    i, j, pairs = len(reference), len(estimated), []
    while i and j:
        if costs[i, j] == costs[i - 1, j - 1] + (reference[i - 1] != estimated[j - 1]):
            i, j = i - 1, j - 1
            if reference[i] == estimated[j]:
                pairs.append((i, j))
        elif costs[i, j] == costs[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return int(costs[-1, -1]), pairs[::-1]


def score_tuning(truth: dict[str, Any], found: Result) -> Scores:
    """Error in cents; a tuning is known only modulo a semitone."""
    assert isinstance(found, Tuning)
    error = (found.cents - truth["tuning_cents"] + 50) % 100 - 50
    return {"error, cents": abs(error)}


SCORES: dict[str, Callable[[dict[str, Any], Result], Scores]] = {
    "beats": score_beats,
    "key": score_key,
    "chords": score_chords,
    "structure": score_structure,
    "lyrics": score_lyrics,
    "tuning": score_tuning,
}


class Systems:
    """Runs backends and originals, each loaded once, and caches their results."""

    def __init__(self) -> None:
        self._store = WeightStore(KEPT / "models", offline=True)
        self._loaded: dict[str, Any] = {}

    def original(self, name: str, song: Song) -> Result:
        """The result of the library's own method."""
        return self._kept(f"original {name}", song, lambda: self._load(name, ORIGINALS[name])(_wav(song.file)))

    def ours(self, name: str, song: Song) -> Result:
        """A backend's result. For the parts that it needs, it gets those of the defaults; lyrics get vocals and mix."""
        part, backend = name.split(":")
        entry = registry.entry(part, backend)
        needed: dict[str, Any] = {need: self.ours(f"{need}:{registry.names(need)[0]}", song) for need in entry.needs}

        def run() -> Result:
            loaded = self._load(f"ours {name}", lambda: registry.load(part, backend, self._store, self._model(part)))
            sound = self._vocals(song) if part == "lyrics" else _decode(song.file)
            mix = (lambda: _decode(song.file)) if part == "lyrics" else None
            context = Context(**needed, mix=mix, options={"language": "en"} if part == "lyrics" else {})
            result: Result = loaded.analyze(sound, context, lambda _: None)
            return result

        return self._kept(f"{name} {entry.version}{', mix' if part == 'lyrics' else ''}", song, run)

    def _model(self, part: str) -> str:
        return "tiny.en" if part == "lyrics" else ""

    def _load(self, name: str, load: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load()
        return self._loaded[name]

    def _vocals(self, song: Song) -> Audio:
        path = KEPT / f"{_digest(song.file)}.vocals.flac"
        if not path.exists():
            spleeter = self._load("spleeter", lambda: separation.load("spleeter_2stems", self._store))
            chunks = spleeter.separate(_decode(song.file).samples, Options(), lambda _: None)
            audio.encode(join(chunks, ["vocals"])["vocals"], RATE, path, "flac")
        return _decode(path)

    def _kept(self, what: str, song: Song, find: Callable[[], Result]) -> Result:
        name = hashlib.sha256(f"{what} {_digest(song.file)}".encode()).hexdigest()
        path = KEPT / f"{name}.pickle"
        if path.exists():
            kept: Result = pickle.loads(path.read_bytes())
            return kept
        result = find()
        path.write_bytes(pickle.dumps(result))
        return result


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _wav(file: Path) -> Path:
    """The song as a file that every library can read."""
    path = KEPT / f"{_digest(file)}.wav"
    if not path.exists():
        audio.encode(_decode(file).samples, RATE, path, "wav", bits=16)
    return path


def _decode(file: Path) -> Audio:
    return Audio(audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2), RATE)


def table(
    part: str, systems: Systems, references: Iterable[Song], originals: bool = True, only: Sequence[str] = ()
) -> list[str]:
    """Scores of one part as lines of Markdown: the mean over all songs with truth, then by song or group of songs.

    Groups of several songs are shown for the default and its original, single songs only for the default.
    """
    names = only or [name for name in registry.names(part) if not registry.entry(part, name).asks_language_model]
    ways: dict[str, Callable[[Song], Result]] = {}
    for name in names:
        full = f"{part}:{name}"
        if not registry.availability(part, name, systems._store, systems._model(part)).available:
            continue
        ways[name] = lambda song, full=full: systems.ours(full, song)  # type: ignore[misc]
        if originals and full in ORIGINALS:
            ways[f"{name}, unmodified"] = lambda song, full=full: systems.original(full, song)  # type: ignore[misc]
    songs_ = [song for song in references if has_truth(part, song.truth)]
    rows = {way: {song.name: SCORES[part](song.truth, run(song)) for song in songs_} for way, run in ways.items()}
    measures = list(dict.fromkeys(measure for row in rows.values() for one in row.values() for measure in one))
    lines = [f"## {part.capitalize()}", "", f"| mean of {len(songs_)} songs | {' | '.join(measures)} |"]
    lines.append("|---" * (len(measures) + 1) + "|")
    for way, row in rows.items():
        means = [_mean(one.get(measure) for one in row.values()) for measure in measures]
        lines.append(f"| {way} | {' | '.join(means)} |")
    groups = {group: [song.name for song in songs_ if song.group == group] for group in _groups(songs_)}
    for way in list(rows)[: 2 if len(groups) < len(songs_) else 1]:
        lines += ["", f"| {way}, one by one | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|"]
        for group, members in groups.items():
            means = [_mean(rows[way][name].get(measure) for name in members) for measure in measures]
            lines.append(f"| {group} | {' | '.join(means)} |")
    return [*lines, ""]


def _groups(songs_: list[Song]) -> list[str]:
    return list(dict.fromkeys(song.group for song in songs_))


def has_truth(part: str, truth: dict[str, Any]) -> bool:
    """Whether a song has truth for a part. Whisper's tiny.en needs English songs with real voices."""
    if part == "lyrics":
        return "words" in truth and truth.get("language", "").startswith("Engl")
    if part == "key":
        return isinstance(truth.get("key"), dict) and "tonic" in truth["key"]
    return {"beats": "beats", "chords": "chords", "structure": "sections", "tuning": "tuning_cents"}[part] in truth


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known else ""


def main() -> None:
    """Runs, prints, and writes the report if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=Path, default=SONGS)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--backends", help="of one part, separated by commas")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    only = arguments.backends.split(",") if arguments.backends else []
    if only and (arguments.write or "," in arguments.parts):
        parser.error("--backends is for one part, and not for --write")
    warnings.simplefilter("ignore")
    KEPT.mkdir(exist_ok=True)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(KEPT / "compiled"))
    references = songs(arguments.songs)
    systems = Systems()
    lines: list[str] = []
    for part in arguments.parts.split(","):
        found = table(part, systems, references, only=only)
        print("\n".join(found), flush=True)
        lines += found
    if arguments.synthetic:
        for part, title, make in (
            ("beats", "Beats of synthesised songs", synthetic_songs),
            ("chords", "Chords of synthesised songs", synthetic_songs),
            ("chords", "Chords of songs made for chords", songs_of_chords),
        ):
            if part in arguments.parts.split(","):
                # The originals of chords give what ours do, and would take an hour for these.
                found = table(part, systems, make(), originals=part == "beats", only=only)
                found[0] = f"## {title}"
                print("\n".join(found), flush=True)
                lines += found
    if arguments.write:
        head = [
            "# Accuracy",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, `python -m bench.accuracy --write`, mir_eval {mir_eval.__version__},",
            "on the project's reference songs, which are not in the repository. No code depends on a single song,",
            "but parameters were chosen with these songs, so these are not scores on unseen data. `unmodified` is",
            "the library's own method. Lyrics are recognised by Whisper tiny.en, on English songs.",
            "",
        ]
        REPORT.write_text("\n".join([*head, *lines]).rstrip() + "\n")


if __name__ == "__main__":
    main()
