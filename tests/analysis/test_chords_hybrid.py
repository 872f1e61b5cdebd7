"""Chords in time with the beats."""

import itertools
from typing import cast

import numpy as np
import pytest

from services.analysis.backends.base import Beat, Beats, Chords, Context
from services.analysis.backends.signal.state_search import likeliest, prices_of_changes
from songs.small_songs import Song
from tests.analysis.conftest import Excerpt, LoadBackend


def test_the_search_finds_the_best_of_all_sequences() -> None:
    rng = np.random.default_rng(4)
    scores, prices = rng.normal(size=(6, 3)), rng.uniform(0, 2, 6)

    def worth(path: tuple[int, ...]) -> float:
        changes = sum(prices[i] for i in range(1, 6) if path[i] != path[i - 1])
        return float(sum(scores[i, chord] for i, chord in enumerate(path)) - changes)

    best = max(itertools.product(range(3), repeat=6), key=worth)
    assert tuple(likeliest(scores, prices)) == best
    assert len(set(best)) > 1


def test_changes_are_cheapest_around_downbeats_and_cheap_around_beats() -> None:
    beats = Beats((Beat(0.0, 1), Beat(0.5, 2)), 120, 1.0, 4)
    assert prices_of_changes(8, 0.1, beats, 1, 2, 3).tolist() == [1, 1, 3, 3, 2, 2, 2, 3]
    without_bars = Beats((Beat(0.0, 0), Beat(0.5, 0)), 120, 1.0, 0)
    assert prices_of_changes(3, 0.1, without_bars, 1, 2, 3).tolist() == [2, 2, 3]


def test_chords_change_on_the_beats_of_a_song(load_backend: LoadBackend, song: Song) -> None:
    backend = load_backend("chords", "hybrid")
    beats = Beats(tuple(Beat(time, 1 + i % 4) for i, time in enumerate(song.beats)), song.bpm, 1.0, 4)
    found = cast(Chords, backend.analyze(song.audio, Context(beats=beats), lambda done: None)).chords
    assert (found[0].start, found[-1].end) == (0, song.audio.duration)
    expected = [chord for chord in song.chords if chord[2] != "N"]
    heard = [chord for chord in found if chord.label != "N"]
    assert [chord.label for chord in heard] == [label for _, _, label in expected]
    assert [chord.start for chord in heard] == pytest.approx([start for start, _, _ in expected], abs=0.1)


@pytest.mark.parametrize("context", [Context(), Context(beats=Beats((), 0.0, 0.0, 0))], ids=["none", "no pulse"])
def test_without_beats_it_equals_chordia(load_backend: LoadBackend, excerpt: Excerpt, context: Context) -> None:
    audio = excerpt(10)
    alone, hybrid = (
        cast(Chords, load_backend("chords", name).analyze(audio, context, lambda done: None)).chords
        for name in ("chordia", "hybrid")
    )
    assert [chord.label for chord in hybrid] == [chord.label for chord in alone]
    assert [chord.start for chord in hybrid] == pytest.approx([chord.start for chord in alone], abs=0.05)
