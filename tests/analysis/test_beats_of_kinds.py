"""Beats, bars and tempo of kinds of music that trackers get wrong."""

from typing import cast

import mir_eval
import numpy as np
import pytest

from services.analysis.backends.base import Beats, Context
from services.common.samples import Audio
from songs.beat_songs import SyntheticSong, recipes, render
from songs.small_songs import RATE, click_track, pop_song, silence, white_noise
from songs.styles import Recipe
from tests.analysis.conftest import LoadBackend


def analyze(load_backend: LoadBackend, audio: Audio, name: str = "madmom") -> Beats:
    return cast(Beats, load_backend("beats", name).analyze(audio, Context(), lambda done: None))


def sound(song: SyntheticSong, seconds: float | None = None) -> Audio:
    mix = song.mix[None] if seconds is None else song.mix[None, : round(seconds * RATE)]
    return Audio(np.ascontiguousarray(mix), RATE)


def times_of(found: Beats, position: int | None = None) -> np.ndarray:
    return np.array([beat.time for beat in found.beats if position in (None, beat.position)])


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("4/4", "rock", 66, seed=300),
        Recipe("4/4", "funk", 90, seed=301),
        Recipe("off-beats", "reggae", 72, seed=302),
        Recipe("3/4", "waltz", 150, 3, seed=303),
        Recipe("6/8", "jig", 52, 2, seed=304),
        Recipe("6/8", "jig", 84, 2, seed=305),
        Recipe("6/8", "lilt", 60, 2, seed=306),
        Recipe("12/8", "shuffle", 66, 4, seed=307),
        Recipe("5/4", "odd", 120, 5, seed=308),
        Recipe("7/8", "odd", 200, 7, seed=309),
        Recipe("upbeat", "ballad", 100, 4, upbeat=1, seed=310),
        Recipe("no drums", "strings", 110, seed=311),
        Recipe("drums", "drums", 100, seed=312),
        Recipe("chorale", "chorale", 90, 3, seed=313),
    ],
    ids=lambda recipe: recipe.name,
)
def test_beats_bars_and_tempo(load_backend: LoadBackend, recipe: Recipe) -> None:
    song = render(recipe)
    found = analyze(load_backend, sound(song))
    assert mir_eval.beat.f_measure(song.beats, times_of(found)) > 0.9
    assert mir_eval.beat.f_measure(song.downbeats, times_of(found, 1)) > 0.9
    assert found.beats_per_bar == recipe.beats_per_bar
    assert found.bpm == pytest.approx(recipe.bpm, rel=0.01)
    assert found.curve == ()
    assert np.abs(song.downbeats[:2] - found.first_downbeat).min() < 0.07


def test_the_tempo_of_a_song_that_drifts(load_backend: LoadBackend) -> None:
    song = render(Recipe("drift", "rock", 110, drift=0.08, seed=320))
    found = analyze(load_backend, sound(song))
    assert found.bpm == pytest.approx(song.bpm, rel=0.04)
    middles, tempi = (song.beats[1:] + song.beats[:-1]) / 2, 60 / np.diff(song.beats)
    followed = [point.bpm / np.interp(point.time, middles, tempi) for point in found.curve]
    assert len(followed) == -(-len(found.beats) // 4)
    assert np.median(np.abs(np.array(followed) - 1)) < 0.03
    assert np.ptp([point.bpm for point in found.curve]) > 0.08 * song.bpm


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


@pytest.mark.parametrize("style", ["rock", "drums", "strings", "chorale"])
def test_three_seconds(load_backend: LoadBackend, style: str) -> None:
    found = analyze(load_backend, sound(render(Recipe("short", style, 120, seed=330)), 3.0))
    assert 0 <= found.confidence <= 1
    assert len(found.beats) in (0, *range(3, 10))
    assert (found.bpm > 0) == bool(found.beats)


def test_recipes_sound_the_same_and_have_names_of_their_own() -> None:
    every = recipes()
    assert len({recipe.name for recipe in every}) == len(every)
    one, again = render(every[0]), render(every[0])
    np.testing.assert_array_equal(one.mix, again.mix)
    assert np.abs(one.mix).max() < 0.9
    assert len(one.mix) / RATE == pytest.approx(32, abs=3)
