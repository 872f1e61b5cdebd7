"""The arithmetic of `bench.separation_quality` and of `songs.sdr`, on stems whose SDR is known."""

from pathlib import Path

import numpy as np
import pytest

from bench.separation_quality import RATE, read_song
from services.common import audio
from songs.sdr import LARGEST_DECIBEL, comparable, median_sdr, sdr

RANDOM = np.random.default_rng(5)


def noise(seconds: float = 3.0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return RANDOM.standard_normal((2, round(seconds * RATE))).astype(np.float32)


def test_an_error_of_a_tenth_is_twenty_decibels() -> None:
    true = noise()
    assert sdr(true, 1.1 * true) == pytest.approx(20, abs=1e-3)
    assert sdr(true, np.zeros_like(true)) == pytest.approx(0)
    assert sdr(true, -true) == pytest.approx(-6.02, abs=0.01)
    assert sdr(true, true) == LARGEST_DECIBEL
    assert np.isnan(sdr(np.zeros_like(true), true))


def test_a_mix_of_two_equally_loud_stems_is_at_zero_decibels() -> None:
    one, other = noise(), noise()
    assert sdr(one, one + other) == pytest.approx(0, abs=0.1)


def test_the_whole_songs_sdr_weighs_loud_passages_and_the_median_does_not() -> None:
    true = noise(5)
    true[:, : 2 * RATE] *= 10
    estimate = true.copy()
    estimate[:, : 2 * RATE] *= 1.1  # 20 dB in the loud passage, 40 dB in the quiet one
    estimate[:, 2 * RATE :] *= 1.01
    assert sdr(true, estimate) == pytest.approx(20.06, abs=0.05)
    assert median_sdr(true, estimate, RATE) == pytest.approx(40, abs=0.01)


def test_windows_in_which_the_true_stem_is_silent_do_not_count() -> None:
    true = noise(4)
    true[:, RATE:] = 1e-5 * true[:, RATE:]
    estimate = true + 0.01 * noise(4)
    assert median_sdr(true, estimate, RATE) == pytest.approx(40, abs=0.1)
    assert np.isnan(median_sdr(np.zeros_like(true), estimate, RATE))


def test_each_stem_is_compared_with_what_it_should_be() -> None:
    true = {name: noise(0.1) for name in ("drums", "bass", "other", "vocals")}
    assert {name: sdr(*pair) for name, pair in comparable(true, true).items()} == dict.fromkeys(true, LARGEST_DECIBEL)

    two = {"vocals": true["vocals"], "accompaniment": true["drums"] + true["bass"] + true["other"]}
    assert all(sdr(*pair) > 100 for pair in comparable(true, two).values())
    assert list(comparable(true, two)) == list(two)
    assert list(comparable(true, {"no_vocals": two["accompaniment"]})) == ["no_vocals"]
    assert sdr(*comparable(true, {"no_vocals": two["accompaniment"]})["no_vocals"]) > 100

    guitar = noise(0.1)
    six = {**true, "other": true["other"] - guitar, "guitar": guitar}
    assert all(sdr(*pair) > 100 for pair in comparable(true, six).values())
    assert "guitar" not in comparable(true, six)


@pytest.mark.parametrize("place", [".", "stems"])
def test_a_folder_is_a_song(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "a song"
    (folder / place).mkdir(parents=True)
    stems = {"vocals": 0.1 * noise(1), "drums": 0.1 * noise(0.5)}
    for name, stem in stems.items():
        audio.encode(stem, RATE, folder / place / f"{name}.wav", "wav", bits=32)
    (folder / "truth.json").write_text("{}")

    song = read_song(folder)

    assert song.name == "a song"
    assert song.seconds == 1
    assert set(song.stems) == {"vocals", "drums"}
    np.testing.assert_allclose(song.mix[:, RATE // 2 :], stems["vocals"][:, RATE // 2 :], atol=1e-6)
    assert song.cut(0.25, 0.75).seconds == 0.5
    assert song.cut(0.25, 0).seconds == 0.75
    audio.encode(0.2 * noise(1), RATE, folder / "mixture.wav", "wav", bits=32)
    assert np.abs(read_song(folder).mix - song.mix).max() > 0.1


def test_a_folder_without_stems_is_refused(tmp_path: Path) -> None:
    audio.encode(0.1 * noise(1), RATE, tmp_path / "mix.wav", "wav")
    with pytest.raises(ValueError, match="no stems"):
        read_song(tmp_path)
