"""Songs of about half a minute with exactly known beats, for cases that are rare among the reference songs.

Meters of two to seven beats, beats of two or three parts, upbeats, strong off-beats, swing, music without drums,
sustained strings, chorales and drifting tempi, played by the instruments of the demo song. `recipes` lists the songs; a
recipe always gives the same sound. A beat of three parts (6/8, 12/8) is a dotted crotchet; in 7/8 a beat is a quaver.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from songs import band
from songs.styles import STYLES, Recipe, Score, Signal

SECONDS = 30.0
_LEAD_IN = 0.4
_PEAK = 0.89
_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
# Degrees of the scale, one per chord; songs repeat two of these progressions as verse and chorus.
_PROGRESSIONS = (
    (0, 5, 3, 4), (0, 4, 5, 3), (0, 3, 0, 4), (0, 2, 3, 4), (5, 3, 0, 4), (0, 0, 3, 4), (1, 4, 0, 5), (0, 3, 1, 4),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SyntheticSong:
    """`mix` is float32 [samples] at 44.1 kHz; `beats` and `downbeats` are seconds, `chords` (start, end, label)."""

    mix: npt.NDArray[np.float32]
    bpm: float
    beats: Signal
    downbeats: Signal
    chords: tuple[tuple[float, float, str], ...]


def recipes() -> list[Recipe]:
    """The songs, in a fixed order."""
    found: list[Recipe] = []

    def add(category: str, style: str, tempi: Sequence[float], beats_per_bar: int = 4, **others: float) -> None:
        for bpm in tempi:
            found.append(Recipe(category, style, bpm, beats_per_bar, seed=len(found), **others))  # type: ignore[arg-type]

    add("4/4", "rock", (63, 88, 109, 131, 158, 184))
    add("4/4", "funk", (92, 112))
    add("off-beats", "reggae", (68, 77, 88, 140))
    add("off-beats", "ska", (104, 122, 141, 164))
    add("off-beats", "backbeat", (75, 96, 118, 142))
    add("swing", "swing", (105, 138, 176, 205))
    add("3/4", "waltz", (84, 108, 142, 186), 3)
    add("3/4", "ballad", (72, 96), 3)
    add("2/4", "polka", (98, 124), 2)
    add("6/8", "jig", (54, 66, 88, 112), 2)
    add("6/8", "lilt", (48, 58, 72), 2)
    add("12/8", "shuffle", (54, 68, 112), 4)
    add("5 and 7", "odd", (104, 146, 172), 5)
    add("5 and 7", "odd", (132, 190, 208), 7)
    add("upbeat", "rock", (100, 126), upbeat=1)
    add("upbeat", "ballad", (80, 112), upbeat=1)
    add("upbeat", "waltz", (120, 160), 3, upbeat=1)
    add("upbeat", "chorale", (66, 76, 88, 100), upbeat=1)
    add("chorale", "chorale", (70, 84, 96))
    add("chorale", "chorale", (80, 104), 3)
    add("no drums", "ballad", (58, 70, 92, 128))
    add("no drums", "strings", (64, 80, 104, 120))
    add("drums", "drums", (86, 116, 150))
    add("drift", "rock", (96, 128), drift=0.06)
    add("drift", "ballad", (72, 100), drift=0.1)
    add("drift", "waltz", (126,), 3, drift=0.08)
    return found


def render(recipe: Recipe) -> SyntheticSong:
    """Plays a song."""
    rng = np.random.default_rng(recipe.seed)
    bars = max(8, round(SECONDS * recipe.bpm / 60 / recipe.beats_per_bar))
    count = bars * recipe.beats_per_bar + recipe.upbeat
    swing = 1 + recipe.drift * np.sin(2 * np.pi * (np.arange(count) / 28 + rng.random()))
    times = _LEAD_IN + np.concatenate([[0.0], np.cumsum(60 / recipe.bpm / swing)])
    verse, chorus = rng.permutation(len(_PROGRESSIONS))[:2]
    form = [_PROGRESSIONS[verse]] * 2 + [_PROGRESSIONS[chorus]] * 2
    chords = [form[bar // 4 % 4][bar % 4] for bar in range(bars)]
    scale = _MAJOR if rng.random() < 0.6 else _MINOR
    score = Score(recipe, times, rng, scale, int(rng.integers(12)), chords)
    STYLES[recipe.style](score)
    mix = band.room(np.stack([score.sound, score.sound]), 0.12, 0.6, seed=recipe.seed)[0]
    beats = times[:count]
    return SyntheticSong(
        (mix * (_PEAK / np.abs(mix).max())).astype(np.float32),
        60 / float(np.median(np.diff(beats))),
        beats,
        beats[recipe.upbeat :: recipe.beats_per_bar],
        _chords(score),
    )


def _chords(score: Score) -> tuple[tuple[float, float, str], ...]:
    """(start, end, name) of each chord; before the first chord there is silence, or an upbeat (X)."""
    starts = [score.seconds(beat) for beat, _ in score.played]
    ends = [*starts[1:], float(score.times[-1])]
    before = [(0.0, float(score.times[0]), "N"), (float(score.times[0]), starts[0], "X")]
    return (
        *(chord for chord in before if chord[1] > chord[0]),
        *((start, end, label) for start, end, (_, label) in zip(starts, ends, score.played, strict=True)),
    )
