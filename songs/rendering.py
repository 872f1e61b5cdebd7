"""Renders the score of a recipe to sound, and does to the recording what its recipe says."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from songs import acoustic, band
from songs.composing import compose
from songs.recipes import Instruments, Recipe
from songs.score import Score, Signal, Truth

SAMPLE_RATE_HZ = band.SAMPLE_RATE_HZ
_PEAK = 0.89
_MOST_DRIFT_CENTS = 40.0
_WIDTHS = (0.0, 0.0, 0.4)  # of stereo, where a channel is inverted
_PANS = {"snare": 0.05, "hat": 0.35, "open hat": 0.35, "ride": -0.3, "rim": -0.15, "crash": 0.3, "piano": 0.25,
         "guitar": -0.35, "strings": 0.1, "organ": -0.2}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MadeSong:
    """A song: `mix` is float32 [2, samples] at 44.1 kHz."""

    mix: npt.NDArray[np.float32]
    truth: Truth


@dataclass(frozen=True, slots=True)
class _Synthesiser:
    """Sounds by instrument.

    Args:
        pitched: take a pitch and seconds.
        drums: take nothing.
        early: seconds by which players begin before the beat, to be heard on it.
        gains: for instruments whose loudness is low for their peak.
    """

    pitched: dict[str, Callable[[float, float], Signal]]
    drums: dict[str, Callable[[], Signal]]
    early: dict[str, float]
    gains: dict[str, float]


_SYNTHESISERS: dict[Instruments, _Synthesiser] = {
    "band": _Synthesiser(
        {"bass": band.bass, "piano": band.piano, "guitar": band.guitar, "strings": band.strings, "organ": band.organ},
        {
            "kick": band.kick,
            "snare": band.snare,
            "rim": band.rim,
            "hat": lambda: band.hat(0.04),
            "open hat": lambda: band.hat(0.12),
            "ride": lambda: band.hat(0.2),
            "crash": band.crash,
        },
        {"strings": 0.045},
        {},
    ),
    "acoustic": _Synthesiser(
        {
            "bass": acoustic.bass,
            "piano": acoustic.piano,
            "guitar": acoustic.guitar,
            "strings": acoustic.strings,
            "organ": acoustic.organ,
        },
        {
            "kick": acoustic.kick,
            "snare": acoustic.snare,
            "rim": acoustic.rim,
            "hat": acoustic.hat,
            "open hat": acoustic.open_hat,
            "ride": acoustic.ride,
            "crash": acoustic.crash,
        },
        {"strings": 0.03},
        {"bass": 1.8, "guitar": 1.6, "piano": 1.7},
    ),
}


def render(recipe: Recipe) -> MadeSong:
    """Makes a song from its recipe."""
    score = compose(recipe)
    rng = recipe.random("recording")
    sound = _play(score, _SYNTHESISERS[recipe.instruments], recipe.tuning_cents)
    sound = band.room(sound, float(rng.uniform(0.08, 0.2)), float(rng.uniform(0.4, 1.0)), seed=int(rng.integers(1000)))
    truth = score.truth
    if recipe.effect == "tape drift":
        sound, truth = _on_drifting_tape(sound, truth, rng)
    elif recipe.effect == "cut in mid-bar":
        sound, truth = _cut(sound, truth, rng)
    elif recipe.effect == "one channel inverted":
        # The mean of the channels is silence if the recording is mono, else it lacks what is in the middle.
        width, middle = float(rng.choice(_WIDTHS)), sound.mean(axis=0)
        sound = width * sound + (1.0 - width) * np.stack([middle, middle])
        sound[1] = -sound[1]
    return MadeSong((sound * (_PEAK / np.abs(sound).max())).astype(np.float32), truth)


def _play(score: Score, synthesiser: _Synthesiser, cents: float) -> Signal:
    sound = np.zeros((2, round(score.seconds * SAMPLE_RATE_HZ)))
    for note in score.notes:
        if note.pitch is None:
            tone = synthesiser.drums[note.instrument]()
        else:
            tone = synthesiser.pitched[note.instrument](note.pitch + cents / 100.0, note.seconds)
        start = max(0.0, note.start - synthesiser.early.get(note.instrument, 0.0))
        at = round(start * SAMPLE_RATE_HZ)
        end = min(sound.shape[1], at + len(tone))
        level = note.level * synthesiser.gains.get(note.instrument, 1.0)
        angle = (_PANS.get(note.instrument, 0.0) + 1.0) * np.pi / 4.0
        for channel, gain in enumerate((np.cos(angle), np.sin(angle))):
            sound[channel, at:end] += level * gain * tone[: end - at]
    return sound


def _cut(sound: Signal, truth: Truth, rng: np.random.Generator) -> tuple[Signal, Truth]:
    """Begins within the second or third bar, and ends within one of the last bars."""
    bars = truth.downbeats

    def within(bar: int) -> float:
        return float(bars[bar] + rng.uniform(0.15, 0.85) * (bars[bar + 1] - bars[bar]))

    start, end = within(int(rng.integers(1, 3))), within(len(bars) - int(rng.integers(3, 5)))
    cut = sound[:, round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)].copy()
    return cut, truth.moved(lambda times: times - start, end - start)


def _on_drifting_tape(sound: Signal, truth: Truth, rng: np.random.Generator) -> tuple[Signal, Truth]:
    """A tape that runs ever faster or slower, up to 40 cents off, with a slow wow; pitch and time change together."""
    count = sound.shape[1]
    first, last = _MOST_DRIFT_CENTS * rng.uniform(0.4, 1.0, 2) * (1, -1) * rng.choice((-1, 1))
    wow = 4.0 * np.sin(2 * np.pi * np.arange(count) / SAMPLE_RATE_HZ / rng.uniform(3.0, 8.0))
    cents = np.linspace(first, last, count) + wow
    read = np.concatenate([[0.0], np.cumsum(2.0 ** (cents / 1200.0))])
    read = read[read <= count - 1]
    drifted = np.stack([np.interp(read, np.arange(count), channel) for channel in sound])
    seconds = read / SAMPLE_RATE_HZ
    heard = np.arange(len(read)) / SAMPLE_RATE_HZ
    moved = truth.moved(lambda times: np.interp(times, seconds, heard), float(heard[-1]))
    return drifted, replace(moved, tuning_cents=truth.tuning_cents + float(cents[: len(read)].mean()))
