"""The made songs are the same every time, and what is said to be true of them is."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from services.common.harte import parse
from songs.collection import CHOOSING, REPORTING, part_of, recipes
from songs.composing import compose, strokes
from songs.harmony import HARMONIES, chord
from songs.recipes import Effect, Instruments, Pulse, Recipe
from songs.rendering import SAMPLE_RATE_HZ, MadeSong, render
from songs.styles import STYLES

FRAME_SECONDS = 0.01
PARTS = {  # the parts of some songs; what was reported once is never chosen by
    "4/4 00, rock 64": REPORTING,
    "4/4 01, pop 75": CHOOSING,
    "chorale 05, piano chorale 99": CHOOSING,
    "whole song 10, verse 136": REPORTING,
}


def short(style: str = "pop", **others: object) -> Recipe:
    """A song that is not in the collection."""
    return Recipe("tests", style, Pulse(110), **others)  # type: ignore[arg-type]


def rises(song: MadeSong) -> np.ndarray:
    """How much louder each frame is than the one before, above 2 kHz and below 300 Hz together."""
    mono = song.mix[0].astype(float)
    size = round(FRAME_SECONDS * SAMPLE_RATE_HZ)
    found = np.zeros(len(mono) // size - 1)
    for hertz, side in ((300, "low"), (2000, "high")):
        sound = np.asarray(sosfilt(butter(4, hertz, side, fs=SAMPLE_RATE_HZ, output="sos"), mono))[
            : len(mono) // size * size
        ].reshape(-1, size)
        found += np.maximum(0.0, np.diff(np.log10((sound**2).mean(axis=1) + 1e-6)))
    return found


def heard(song: MadeSong, times: np.ndarray) -> float:
    """The mean rise at times, compared with that everywhere."""
    found = rises(song)
    frames = np.round(times / FRAME_SECONDS).astype(int) - 1
    near = [found[max(0, frame - 2) : frame + 4].max() for frame in frames if 2 <= frame < len(found) - 4]
    return float(np.mean(near) / np.mean(found))


@pytest.mark.parametrize("instruments", ["band", "acoustic"])
def test_a_recipe_always_gives_the_same_sound(instruments: Instruments) -> None:
    one, again = (render(short("quartet in three", instruments=instruments, effect="tape drift")) for _ in range(2))
    np.testing.assert_array_equal(one.mix, again.mix)
    assert one.truth.entries() == again.truth.entries()
    assert 0.5 < np.abs(one.mix).max() < 0.9


def test_there_are_songs_of_every_kind_in_both_parts() -> None:
    every = recipes()
    assert len({recipe.name for recipe in every}) == len(every) >= 300
    chosen, reported = recipes(CHOOSING), recipes(REPORTING)
    assert not set(chosen) & set(reported)
    assert set(chosen) | set(reported) == set(every)
    for kind, count in Counter(recipe.kind for recipe in every).items():
        assert "," not in kind  # separates kinds on the command line
        assert sum(recipe.kind == kind for recipe in reported) == count / 2 >= 3
    for part in (chosen, reported):
        assert {recipe.instruments for recipe in part} == {"band", "acoustic"}
        assert {STYLES[recipe.style].meter for recipe in part} >= {"4/4", "3/4", "2/4", "6/8", "12/8", "5/4", "7/8"}


def test_a_song_never_changes_its_part() -> None:
    found = {recipe.name: part_of(recipe) for recipe in recipes()}
    assert {name: found[name] for name in PARTS} == PARTS
    one = recipes(REPORTING)[0]
    assert part_of(replace(one, instruments="acoustic", tuning_cents=20.0, effect="tape drift")) == REPORTING


def test_patterns_divide_their_bars_and_chords_have_names() -> None:
    for style in STYLES.values():
        for pattern in [*style.drums.values(), *(line.pattern for line in style.lines)]:
            for bar in pattern.split("|"):
                assert len(bar) % style.beats == 0 or style.beats % len(bar) == 0
    for harmony in HARMONIES.values():
        for numeral, following in harmony.moves.items():
            assert parse(chord(numeral, 3).label)
            assert set(following.split()) <= set(harmony.moves)


def test_strokes() -> None:
    assert strokes("x=.0|X...", 0, 4) == [("x", 0.0, 2.0), ("0", 3.0, 1.0)]
    assert strokes("x=.0|X...", 1, 2) == [("X", 0.0, 0.5)]


def test_roman_numerals() -> None:
    assert chord("I", 2).label == "D:maj"
    assert chord("bVII/1", 0).label == "Bb:maj/3"
    assert chord("ii7", 0).label == "D:min7"
    assert chord("viiø7", 0).label == "B:hdim7"
    with pytest.raises(ValueError, match="not a Roman numeral: 'ivi'"):
        chord("ivi", 0)


def test_truth_is_whole_and_agrees_with_the_notes() -> None:
    for recipe in recipes()[::6]:
        score = compose(recipe)
        truth, starts = score.truth, np.array(sorted(note.start for note in score.notes))
        assert np.all(np.diff(truth.beats) > 0.15)
        assert set(truth.downbeats) <= set(truth.beats)
        for spans in (truth.chords, truth.keys, truth.sections):
            assert all(one[1] == other[0] and one[0] < one[1] for one, other in pairwise(spans))
            assert not spans or (spans[0][0] == 0.0 and spans[-1][1] <= score.seconds)
        sounded = [np.abs(starts - time).min() < 0.01 for time in truth.downbeats]
        # In ska and reggae some bars begin with a rest.
        assert np.mean(sounded) > (0.4 if recipe.style == "reggae" else 0.9), recipe.name


@pytest.mark.parametrize(
    ("instruments", "effect"),
    [("band", ""), ("acoustic", "tape drift"), ("band", "cut in mid-bar"), ("acoustic", "intro without pulse")],
)
def test_beats_are_where_the_sound_has_onsets(instruments: Instruments, effect: Effect) -> None:
    song = render(short("rock", instruments=instruments, effect=effect))
    beats = song.truth.beats
    assert heard(song, beats[:-4]) > 4 * heard(song, beats[:-4] + np.diff(beats)[0] / 4)


def test_a_cut_song_begins_within_a_bar() -> None:
    truth = render(short(effect="cut in mid-bar")).truth
    bar = truth.downbeats[1] - truth.downbeats[0]
    assert 0.1 * bar < truth.downbeats[0] < 0.9 * bar
    assert truth.chords[0][0] == truth.keys[0][0] == 0.0


def test_beats_that_cannot_be_heard_are_not_told() -> None:
    assert "beats" not in compose(short("held chords")).truth.entries()
    assert "chords" not in compose(short("drums")).truth.entries()


def test_an_inverted_channel_cancels() -> None:
    mix = render(short(effect="one channel inverted")).mix
    assert np.std(mix[0] + mix[1]) < 0.4 * np.std(mix[0] - mix[1])


@pytest.mark.parametrize("cents", [-50.0, 30.0])
def test_a_detuned_song_is_as_far_off_as_it_says(cents: float) -> None:
    tuned, detuned = (render(short("hymn", tuning_cents=off)) for off in (0.0, cents))
    octaves = np.arange(7.0, 10.0, 1 / 1200)  # 128 to 1024 Hz, in steps of a cent

    def spectrum(song: MadeSong) -> np.ndarray:
        sound = song.mix[0, : 2**20]
        levels = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 0.5
        return np.asarray(np.interp(2**octaves, np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ), levels))

    one, other = spectrum(tuned), spectrum(detuned)
    shifts = np.arange(-60, 61)
    best = max(shifts, key=lambda shift: float(np.dot(one[100:-100], np.roll(other, -shift)[100:-100])))
    assert best == pytest.approx(cents, abs=2)
    assert detuned.truth.tuning_cents == cents


def test_tempo_curves() -> None:
    rng = np.random.default_rng(0)
    step = 60 / Pulse(100, 140).intervals(64, 16, rng)
    assert set(step.round(6)) == {100.0, 140.0}
    assert step[31] == pytest.approx(100)
    assert step[32] == pytest.approx(140)
    gradual = 60 / Pulse(100, 140, gradual=True).intervals(64, 16, rng)
    assert np.all(np.diff(gradual) > 0)
    rubato = 60 / Pulse(100, phrasing=0.2).intervals(64, 16, rng)
    assert rubato[15] < rubato[12] == pytest.approx(100)
