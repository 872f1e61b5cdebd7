"""Made songs really contain the chords that their truth says."""

from itertools import pairwise

import mir_eval
import numpy as np
import pytest

from services.analysis.backends.signal.note_activity import SECONDS_PER_FRAME, chroma, note_activity
from services.common.samples import Audio
from songs.beat_songs import render
from songs.chord_songs import KINDS, ChordSong, TimedChord, chord_songs
from songs.small_songs import RATE, pop_song
from songs.styles import Recipe

SHARE = 0.75  # of the chords: melodies and walking basses play other notes, too


def right(audio: Audio, chords: tuple[TimedChord, ...]) -> list[bool]:
    """Whether the notes of each chord are stronger than the other notes."""
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


def test_chords_of_songs_made_for_chords() -> None:
    songs = chord_songs(7, 1)
    made: list[ChordSong] = [next(songs) for _ in range(len(KINDS) + 2)]
    assert [song.kind for song in made[: len(KINDS)]] == list(KINDS)
    assert all(song.kind.endswith("key song") for song in made[len(KINDS) :])
    for song in made:
        assert all(one[1] == pytest.approx(other[0]) for one, other in pairwise(song.chords))
        assert song.chords[-1][1] <= song.audio.duration
        assert np.mean(right(song.audio, song.chords)) >= SHARE, song.kind
    assert len({label.partition(":")[2] for song in made for *_, label in song.chords}) > 12


@pytest.mark.parametrize("style", ["ballad", "chorale", "swing"])
def test_chords_of_songs_made_for_beats(style: str) -> None:
    song = render(Recipe("any", style, 90, upbeat=1, seed=5))
    assert song.chords[0] == (0.0, song.beats[0], "N")
    assert song.chords[-1][1] >= song.beats[-1]
    assert np.mean(right(Audio(song.mix[None], RATE), song.chords)) >= SHARE


def test_chords_of_the_small_song_join_exactly_for_mir_eval() -> None:
    chords = pop_song(["C:maj", "A:min", "F:maj", "G:maj"] * 2).chords
    assert all(one[1] == other[0] for one, other in pairwise(chords))
