"""The tuning of a song, and the parts that are found in this tuning."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import soxr
from google.protobuf.json_format import ParseDict

from services.analysis.backends.base import Chords, Context, Key, Tuning
from services.analysis.backends.signal import spectra
from services.analysis.backends.signal.features import mono
from services.analysis.backends.signal.tuning import STANDARD, tuning_of
from services.analysis.contents import content
from services.common.parts import Part
from services.common.samples import Audio
from songs.small_songs import RATE, Song, click_track, pop_song, silence, white_noise
from stemtube.analysis.v1 import music_pb2
from tests.analysis.conftest import LoadBackend
from tests.analysis.test_chords import overlap


def detuned(song: Song, cents: float) -> Song:
    """The song on a tape that runs fast or slow: pitch and tempo change together."""
    speed = 2 ** (cents / 1200)
    samples = soxr.resample(song.audio.samples.T, RATE * speed, RATE, quality="HQ").T
    audio = Audio(np.ascontiguousarray(samples), RATE)
    chords = [(start / speed, end / speed, label) for start, end, label in song.chords]
    chords[-1] = (chords[-1][0], audio.duration, chords[-1][2])
    return replace(song, audio=audio, beats=song.beats / speed, chords=chords)


def on_a_tape(song: Song, cents: np.ndarray) -> Song:
    """The song on a tape whose speed changes; `cents` at equal distances over the song."""
    count = song.audio.samples.shape[1]
    speed = 2 ** (np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(cents)), cents) / 1200)
    places = np.concatenate([[0.0], np.cumsum(speed)])
    places = places[places < count - 1]
    samples = [np.interp(places, np.arange(count), channel) for channel in song.audio.samples]
    audio = Audio(np.array(samples, np.float32), RATE)

    def moved(time: float) -> float:
        return min(audio.duration, float(np.searchsorted(places, time * RATE)) / RATE)

    chords = [(moved(start), moved(end), label) for start, end, label in song.chords]
    return replace(song, audio=audio, chords=chords)


@pytest.fixture(scope="module")
def short() -> Song:
    return pop_song(["C:maj", "A:min", "F:maj", "G:maj"], bpm=120)


@pytest.mark.parametrize("cents", [-45, -32, -15, 0, 10, 25, 45])
def test_tuning_is_known_to_three_cents(short: Song, cents: int) -> None:
    found = tuning_of(detuned(short, cents).audio)
    assert found.cents == pytest.approx(cents, abs=3)
    assert found.confidence > 0.4
    assert not found.curve
    assert not found.ambiguous


def test_a_tuning_between_two_semitones_is_called_ambiguous(short: Song) -> None:
    found = tuning_of(detuned(short, 50).audio)
    assert abs(found.cents) == pytest.approx(50, abs=3)
    assert found.ambiguous
    message = ParseDict(content(found, {}), music_pb2.Tuning())
    assert message.ambiguous
    assert message.cents == found.cents


@pytest.mark.parametrize("audio", [silence(), white_noise(), click_track()], ids=["silence", "noise", "clicks"])
def test_without_notes_there_is_no_tuning(audio: Audio) -> None:
    assert tuning_of(audio) == STANDARD


@pytest.fixture(scope="module")
def long_song() -> Song:
    return pop_song(["C:maj", "A:min", "F:maj", "G:maj"] * 6)


def test_the_curve_follows_a_tape_that_drifts(long_song: Song) -> None:
    found = tuning_of(on_a_tape(long_song, np.array([-25.0, 25.0])).audio)
    assert found.cents == pytest.approx(0, abs=5)
    seconds = np.array([10.0, 30.0, 50.0])
    np.testing.assert_allclose(found.at(seconds), -25 + 50 * seconds / long_song.audio.duration, atol=4)


def test_the_curve_shows_a_change_between_verse_and_chorus(long_song: Song) -> None:
    found = tuning_of(on_a_tape(long_song, np.repeat([0.0, -35.0], 50)).audio)
    assert found.at(np.array([15.0, 45.0])) == pytest.approx([0, -35], abs=5)


def test_chroma_follow_the_drift(long_song: Song) -> None:
    audio = on_a_tape(long_song, np.array([-45.0, 40.0])).audio
    chroma = spectra.spectrum(mono(audio, spectra.SAMPLE_RATE_HZ), lambda done: None, tuning_of(audio)).chroma
    ends = [spectra.SAMPLE_RATE_HZ * second // spectra.HOP for second in (2, 55)]
    # The first chord and the last but one are C and F major.
    assert set(np.argsort(chroma[ends[0] - 10 : ends[0] + 10].mean(axis=0))[-3:]) == {0, 4, 7}
    assert set(np.argsort(chroma[ends[1] - 10 : ends[1] + 10].mean(axis=0))[-3:]) == {5, 9, 0}


@pytest.mark.parametrize(
    ("name", "cents"),
    [("hybrid", -45), ("hybrid", -24), ("hybrid", 33), ("hybrid", 45), ("madmom", -45), ("madmom", 45)],
)
def test_chords_of_a_detuned_song(load_backend: LoadBackend, short: Song, name: str, cents: int) -> None:
    song = detuned(short, cents)
    found = cast(Chords, load_backend("chords", name).analyze(song.audio, Context(), lambda done: None))
    assert overlap(song, found) > 0.9


def test_chords_of_a_song_that_drifts(load_backend: LoadBackend) -> None:
    song = on_a_tape(pop_song(["C:maj", "A:min", "F:maj", "G:maj"] * 5, bpm=120), np.array([-85.0, 25.0]))
    assert tuning_of(song.audio).cents == pytest.approx(-30, abs=10)
    found = cast(Chords, load_backend("chords", "hybrid").analyze(song.audio, Context(), lambda done: None))
    assert overlap(song, found) > 0.9


@pytest.mark.parametrize("name", ["madmom", "librosa"])
@pytest.mark.parametrize("cents", [-45, 45])
def test_key_of_a_detuned_song(load_backend: LoadBackend, short: Song, name: str, cents: int) -> None:
    found = cast(Key, load_backend("key", name).analyze(detuned(short, cents).audio, Context(), lambda done: None))
    assert (found.tonic, found.mode) == ("C", "major")


def test_the_part_gives_the_tuning_that_all_use(load_backend: LoadBackend, short: Song) -> None:
    song = detuned(short, -32)
    part: Part = "tuning"
    found = cast(Tuning, load_backend(part, "peaks").analyze(song.audio, Context(), lambda done: None))
    assert found is tuning_of(song.audio)
