"""Scores of results against the truth, by mir_eval where it has them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mir_eval
import numpy as np

from services.analysis.backends.base import Beats, Chords, Key, Lyrics, Result, Structure, Tuning

TEMPO_TOLERANCE = 0.04  # of the tempo, as in MIREX
STEADY_TEMPO = 1.15  # the largest ratio of tempi in a song that has one tempo
WORD_SECONDS = 0.3
GRID_SECONDS = 0.1
ROUNDING_SECONDS = 1e-6

Scores = dict[str, float]


def score_beats(truth: dict[str, Any], found: Result) -> Scores:
    """F and continuity of beats, F of downbeats, beats per bar and tempo.

    `Acc1` is whether the tempo is right, `Acc2` whether it is, or is half, double, a third or three times of it; both
    only where a song has one tempo. `tempo over time` is the share of time with the right tempo.
    """
    assert isinstance(found, Beats)
    reference = mir_eval.beat.trim_beats(np.array(truth["beats"], float))
    estimated = mir_eval.beat.trim_beats(np.array([beat.time for beat in found.beats]))
    _, cmlt, _, amlt = mir_eval.beat.continuity(reference, estimated)
    scores = {"beats F": mir_eval.beat.f_measure(reference, estimated), "CMLt": cmlt, "AMLt": amlt}
    if "downbeats" in truth and (not found.beats or any(beat.position for beat in found.beats)):
        reference = mir_eval.beat.trim_beats(np.array(truth["downbeats"], float))
        estimated = mir_eval.beat.trim_beats(np.array([beat.time for beat in found.beats if beat.position == 1]))
        scores["downbeats F"] = mir_eval.beat.f_measure(reference, estimated)
        if "beats_per_bar" in truth:
            scores["meter"] = float(found.beats_per_bar == truth["beats_per_bar"])
    curve = np.array([[point["time"], point["bpm"]] for point in truth.get("tempo_curve", [])]).reshape(-1, 2)
    slow, fast = np.percentile(curve[:, 1], (10, 90)) if len(curve) else (1.0, 1.0)
    tempo: float = truth.get("tempo_bpm") or truth.get("bpm_stated") or 0.0
    if tempo and fast / slow < STEADY_TEMPO:
        near = [
            abs(found.bpm - tempo * factor) <= TEMPO_TOLERANCE * tempo * factor for factor in (1, 2, 1 / 2, 3, 1 / 3)
        ]
        scores |= {"Acc1": float(near[0]), "Acc2": float(any(near))}
    if len(curve):
        scores["tempo over time"] = _tempo_over_time(curve, found)
    return scores


def _tempo_over_time(curve: np.ndarray, found: Beats) -> float:
    """The share of time, from the first to the last beat, in which the tempo is right."""
    grid = np.arange(curve[0, 0], curve[-1, 0], GRID_SECONDS)
    # Players' unevenness from beat to beat is no change of tempo: the median of five beats is free of it.
    tempi = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(curve[:, 1], 2, mode="edge"), 5), axis=1)
    true = np.interp(grid, curve[:, 0], tempi)
    points = found.curve
    followed = np.interp(grid, [point.time for point in points], [point.bpm for point in points]) if points else None
    estimated = np.full(len(grid), found.bpm) if followed is None else followed
    return float(np.mean(np.abs(estimated - true) <= TEMPO_TOLERANCE * true))


def score_key(truth: dict[str, Any], found: Result) -> Scores:
    """MIREX' weighted score of the main key, and the share of time with exactly the right key."""
    assert isinstance(found, Key)
    estimated = _key(found.tonic, found.mode)
    scores = {"key": mir_eval.key.evaluate(_key(**truth["key"]), estimated)["Weighted Score"]}
    if "keys" in truth:
        end = truth["keys"][-1]["end"]
        regions = [(region.start, region.end, _key(region.tonic, region.mode)) for region in found.regions]
        right = sum(
            max(0.0, min(known["end"], until) - max(known["start"], start))
            for known in truth["keys"]
            for start, until, name in regions or [(0.0, end, estimated)]
            if mir_eval.key.evaluate(_key(known["tonic"], known["mode"]), name)["Weighted Score"] == 1.0
        )
        scores["key over time"] = right / end
    return scores


def _key(tonic: str, mode: str) -> str:
    return f"{tonic} {mode}" if tonic else "X"


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
    return {"error, cents": abs((found.cents - truth["tuning_cents"] + 50) % 100 - 50)}


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a part is scored.

    Args:
        score: of a result against the truth.
        shown: the measures that are shown by kind.
        beside: the backend of whose library the own way is shown beside the default.
    """

    score: Callable[[dict[str, Any], Result], Scores]
    shown: tuple[str, ...]
    beside: str


SCORINGS: dict[str, Scoring] = {
    "beats": Scoring(score_beats, ("beats F", "downbeats F", "meter", "tempo over time"), "madmom"),
    "key": Scoring(score_key, ("key", "key over time"), "madmom"),
    "chords": Scoring(score_chords, ("majmin", "sevenths"), "chordia"),
    "structure": Scoring(score_structure, ("F 0.5 s", "F 3 s", "pairwise F"), "msaf"),
    "lyrics": Scoring(score_lyrics, ("word errors", "within 0.3 s"), "whisper"),
    "tuning": Scoring(score_tuning, ("error, cents",), ""),
}


def has_truth(part: str, truth: dict[str, Any]) -> bool:
    """Whether a song has truth for a part. Whisper's tiny.en needs English songs with real voices."""
    if part == "lyrics":
        return "words" in truth and truth.get("language", "").startswith("Engl")
    if part == "key":
        return isinstance(truth.get("key"), dict) and "tonic" in truth["key"]
    if part == "tuning":
        return "tuning_cents" in truth and truth.get("key") is not None
    return {"beats": "beats", "chords": "chords", "structure": "sections"}[part] in truth
