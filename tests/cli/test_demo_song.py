"""The project's own song: always the same, consistent with its truth, and shaped like music."""

from itertools import pairwise

import numpy as np
import pytest

from songs.song import (
    BEATS_PER_BAR,
    FULL_FORM,
    SAMPLE_RATE_HZ,
    SHORT_FORM,
    STEMS,
    TEMPO_BPM,
    DemoSong,
    demo_song,
    short_song,
)


@pytest.fixture(scope="module")
def song() -> DemoSong:
    return short_song()


def level_db(sound: np.ndarray) -> float:
    return float(10.0 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-12))


def between(song: DemoSong, name: str, start: float, end: float) -> np.ndarray:
    return song.stems[name][:, round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]


def band_share(sound: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(sound.mean(axis=0))) ** 2
    hertz = np.fft.rfftfreq(sound.shape[1], 1.0 / SAMPLE_RATE_HZ)
    return float(power[(hertz >= low_hz) & (hertz < high_hz)].sum() / power.sum())


def test_every_call_makes_the_same_samples(song: DemoSong) -> None:
    again = short_song()
    assert np.array_equal(song.mix, again.mix)
    assert song.truth == again.truth


def test_stems_sum_to_the_mix_exactly(song: DemoSong) -> None:
    assert tuple(song.stems) == STEMS
    total = np.zeros_like(song.mix)
    for stem in song.stems.values():
        assert stem.shape == song.mix.shape
        assert stem.dtype == np.float32
        total += stem
    assert np.array_equal(total, song.mix)


def test_peak_is_one_decibel_below_full_scale(song: DemoSong) -> None:
    assert 20.0 * np.log10(np.abs(song.mix).max()) == pytest.approx(-1.0, abs=0.01)
    assert np.isfinite(song.mix).all()


def test_beats_run_at_the_tempo_and_count_four_to_the_bar(song: DemoSong) -> None:
    times = np.array([time for time, _ in song.truth.beats])
    assert np.diff(times) == pytest.approx(60.0 / TEMPO_BPM)
    assert [position for _, position in song.truth.beats[:5]] == [1, 2, 3, 4, 1]
    assert len(times) == BEATS_PER_BAR * sum(len(passage.chords) for passage in SHORT_FORM)


@pytest.mark.parametrize("layer", ["chords", "sections"])
def test_chords_and_sections_cover_the_song_without_gaps(song: DemoSong, layer: str) -> None:
    segments = getattr(song.truth, layer)
    assert segments[0][0] == 0.0
    assert segments[-1][1] == pytest.approx(song.duration, abs=1e-4)
    for (_, end, label), (start, _, following) in pairwise(segments):
        assert end == start
        assert label != following


def test_chord_changes_fall_on_downbeats(song: DemoSong) -> None:
    downbeats = np.array([time for time, position in song.truth.beats if position == 1])
    for start, _, label in song.truth.chords:
        assert label == "N" or np.abs(downbeats - start).min() < 1e-6


def test_bass_plays_the_roots_of_the_chords(song: DemoSong) -> None:
    steps = {"C": 0, "D": 2, "E": 4, "G": 7, "A": 9}
    for start, end, label in song.truth.chords[1:-1]:
        sound = between(song, "bass", start + 0.05, min(end, start + 2.0)).mean(axis=0)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
        hertz = np.fft.rfftfreq(1 << 18, 1.0 / SAMPLE_RATE_HZ)
        low = (hertz > 50.0) & (hertz < 120.0)
        pitch = 69.0 + 12.0 * np.log2(hertz[low][spectrum[low].argmax()] / 440.0)
        assert round(pitch) % 12 == steps[label[0]]


def test_words_are_sung_where_the_truth_says(song: DemoSong) -> None:
    assert song.truth.lyrics.lower().split() == [word for _, _, word in song.truth.words]
    for (start, end, _), (following, _, _) in pairwise(song.truth.words):
        assert start < end <= following + 1e-9
    sung = np.concatenate([between(song, "vocals", start, end) for start, end, _ in song.truth.words], axis=1)
    chorus_end = song.truth.sections[1][1]
    assert level_db(sung) > -25.0
    assert level_db(between(song, "vocals", chorus_end + 0.5, song.duration)) < -60.0


def test_each_stem_has_the_spectrum_of_its_instrument(song: DemoSong) -> None:
    assert band_share(song.stems["bass"], 30.0, 400.0) > 0.95
    assert band_share(song.stems["vocals"], 120.0, 5000.0) > 0.95
    assert band_share(song.stems["vocals"], 900.0, 5000.0) > 0.05
    assert band_share(song.stems["drums"], 4000.0, 16000.0) > 0.02
    assert band_share(song.stems["other"], 120.0, 3000.0) > 0.9


def test_the_chorus_is_fuller_than_the_verse(song: DemoSong) -> None:
    verse, chorus, outro = song.truth.sections
    for name in ("drums", "other"):
        assert level_db(between(song, name, *chorus[:2])) > level_db(between(song, name, *verse[:2])) + 1.5
    assert level_db(between(song, "drums", *chorus[:2])) > level_db(between(song, "drums", *outro[:2])) + 6.0


def test_the_full_song_has_six_sections_in_about_eighty_seconds() -> None:
    song = demo_song()
    assert [label for _, _, label in song.truth.sections] == [passage.label for passage in FULL_FORM]
    assert 60.0 < song.duration < 80.0
    assert song.truth.key == ("G", "major")
    assert len(song.truth.lyrics.splitlines()) == 14
