"""The chords that made songs are said to have are those that sound in them."""

from itertools import pairwise

import mir_eval
import numpy as np
import pytest

from services.analysis.backends.signal.note_activity import SECONDS_PER_FRAME, chroma, note_activity
from services.common.samples import Audio
from songs.collection import CHOOSING, recipes
from songs.rendering import render
from songs.score import Span
from songs.small_songs import RATE, pop_song

SHARE = 0.9  # of the chords: tunes and walking basses play other notes, too


def right(audio: Audio, chords: tuple[Span, ...]) -> list[bool]:
    """Of each chord, whether its notes sound more than the others."""
    classes = chroma(note_activity(audio, lambda _: None))
    found = []
    for start, end, label in chords:
        root, tones, _ = mir_eval.chord.encode(label)
        if root >= 0:
            frames = slice(round((start + 0.1) / SECONDS_PER_FRAME), max(1, round(end / SECONDS_PER_FRAME)))
            heard = classes[frames].sum(axis=0)
            named = np.roll(tones, root) > 0
            found.append(bool(heard[named].mean() > 2 * heard[~named].mean()))
    return found


@pytest.mark.parametrize(
    "kind",
    ["chorale with an upbeat", "fast swing", "intro without pulse", "inversions", "rare qualities", "tape drift"],
)
def test_chords_sound(kind: str) -> None:
    song = render(next(recipe for recipe in recipes(CHOOSING) if recipe.kind == kind))
    assert np.mean(right(Audio(song.mix, RATE), song.truth.chords)) >= SHARE
    assert len({label for *_, label in song.truth.chords}) >= 3


def test_chords_of_the_small_song_join_exactly_as_mir_eval_demands() -> None:
    chords = pop_song(["C:maj", "A:min", "F:maj", "G:maj"] * 2).chords
    assert all(one[1] == other[0] for one, other in pairwise(chords))
