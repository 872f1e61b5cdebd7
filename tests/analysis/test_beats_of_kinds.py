"""Beats, bars and tempo of kinds of music that trackers get wrong."""

from typing import cast

import mir_eval
import numpy as np
import pytest

from services.analysis.backends.base import Beats, Context
from services.common.samples import Audio
from songs.recipes import Pulse, Recipe
from songs.rendering import MadeSong, render
from songs.small_songs import RATE, click_track, pop_song, silence, white_noise
from tests.analysis.conftest import LoadBackend


def analyze(load_backend: LoadBackend, audio: Audio, name: str = "madmom") -> Beats:
    return cast(Beats, load_backend("beats", name).analyze(audio, Context(), lambda done: None))


def sound(song: MadeSong, seconds: float | None = None) -> Audio:
    mix = song.mix if seconds is None else song.mix[:, : round(seconds * RATE)]
    return Audio(np.ascontiguousarray(mix), RATE)


def times_of(found: Beats, position: int | None = None) -> np.ndarray:
    return np.array([beat.time for beat in found.beats if position in (None, beat.position)])


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("tests", "rock", Pulse(66)),
        Recipe("tests", "funk", Pulse(90)),
        Recipe("tests", "reggae", Pulse(72)),
        Recipe("tests", "waltz", Pulse(150)),
        Recipe("tests", "jig", Pulse(84)),
        Recipe("tests", "slow rock", Pulse(52)),
        Recipe("tests", "lilt", Pulse(60)),
        Recipe("tests", "shuffle", Pulse(96)),
        Recipe("tests", "five", Pulse(120)),
        Recipe("tests", "seven", Pulse(200)),
        Recipe("tests", "ballad", Pulse(100), upbeat=1),
        Recipe("tests", "quartet", Pulse(110)),
        Recipe("tests", "drums", Pulse(100)),
        Recipe("tests", "chorale in three", Pulse(90), "chorale"),
    ],
    ids=lambda recipe: recipe.name,
)
def test_beats_bars_and_tempo(load_backend: LoadBackend, recipe: Recipe) -> None:
    song = render(recipe)
    truth = song.truth
    found = analyze(load_backend, sound(song))
    assert mir_eval.beat.f_measure(truth.beats, times_of(found)) > 0.9
    assert mir_eval.beat.f_measure(truth.downbeats, times_of(found, 1)) > 0.9
    assert found.beats_per_bar == truth.beats_per_bar
    assert found.bpm == pytest.approx(recipe.pulse.bpm, rel=0.01)
    assert found.curve == ()
    assert np.abs(truth.downbeats[:2] - found.first_downbeat).min() < 0.07


def test_the_tempo_of_a_song_that_drifts(load_backend: LoadBackend) -> None:
    song = render(Recipe("tests", "rock", Pulse(110, sway=0.08)))
    beats, bpm = song.truth.beats, song.truth.tempo_bpm
    found = analyze(load_backend, sound(song))
    assert found.bpm == pytest.approx(bpm, rel=0.04)
    middles, tempi = (beats[1:] + beats[:-1]) / 2, 60 / np.diff(beats)
    followed = [point.bpm / np.interp(point.time, middles, tempi) for point in found.curve]
    assert len(followed) == -(-len(found.beats) // 4)
    assert np.median(np.abs(np.array(followed) - 1)) < 0.03
    assert np.ptp([point.bpm for point in found.curve]) > 0.08 * bpm


def test_a_change_of_tempo(load_backend: LoadBackend) -> None:
    chords = ["C:maj", "A:min", "F:maj", "G:maj"] * 2
    slow, fast = pop_song(chords, bpm=96), pop_song([*chords, *chords[:4]], bpm=138, lead_in=0.0)
    change = 0.5 + len(chords) * 4 * 60 / 96
    first = slow.audio.samples[:, : round(change * RATE)]
    song = Audio(np.concatenate([first, fast.audio.samples], axis=1), RATE)
    beats = np.concatenate([slow.beats, change + fast.beats])
    found = analyze(load_backend, song)
    assert mir_eval.beat.f_measure(beats, times_of(found)) > 0.95
    assert mir_eval.beat.f_measure(beats[::4], times_of(found, 1)) > 0.9
    curve = [round(point.bpm) for point in found.curve]
    assert curve[:7] == [96] * 7
    assert curve[-10:] == [138] * 10


@pytest.mark.parametrize("bpm", [80, 120, 175])
@pytest.mark.parametrize("name", ["madmom", "librosa"])
def test_every_click_is_a_beat(load_backend: LoadBackend, name: str, bpm: float) -> None:
    found = analyze(load_backend, click_track(20.0, bpm), name)
    clicks = np.arange(0.25, 19.9, 60 / bpm)
    assert mir_eval.beat.f_measure(clicks, times_of(found)) > 0.9
    assert found.bpm == pytest.approx(bpm, rel=0.01)


@pytest.mark.parametrize("name", ["madmom", "librosa"])
@pytest.mark.parametrize("audio", [silence(3.0), white_noise(20.0)], ids=["silence", "noise"])
def test_no_pulse(load_backend: LoadBackend, name: str, audio: Audio) -> None:
    found = analyze(load_backend, audio, name)
    assert found == Beats((), 0.0, 0.0, 0)
    assert found.first_downbeat == 0.0


@pytest.mark.parametrize("style", ["rock", "drums", "pads", "chorale"])
def test_three_seconds(load_backend: LoadBackend, style: str) -> None:
    found = analyze(load_backend, sound(render(Recipe("tests", style, Pulse(120))), 3.0))
    assert 0 <= found.confidence <= 1
    assert len(found.beats) in (0, *range(3, 10))
    assert (found.bpm > 0) == bool(found.beats)
