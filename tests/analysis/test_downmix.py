"""The mono mix that all analyses hear."""

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from services.analysis.backends.signal.downmix import downmix
from services.analysis.backends.signal.features import has_sound, mono
from services.common.samples import Audio, Samples
from songs.small_songs import RATE, Song, tone

SECONDS = 4.0


def band_of(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.asarray(sosfiltfilt(butter(4, [low, high], "band", fs=RATE, output="sos"), sound), np.float32)


def voice() -> np.ndarray:
    """A melody with strong overtones, louder than the song's instruments in its range."""
    notes = [tone(pitch, 0.5, harmonics=16) for pitch in (57, 60, 62, 64, 65, 64, 62, 60)]
    return np.concatenate(notes).astype(np.float32)


@pytest.fixture(scope="module")
def stereo(song: Song) -> Samples:
    return song.audio.samples[:, : round(SECONDS * RATE)]


def test_music_gets_the_plain_mean(stereo: Samples) -> None:
    unrelated = stereo + np.random.default_rng(1).normal(0, 0.1, stereo.shape).astype(np.float32)
    panned = np.stack([stereo[0], 0 * stereo[0]])
    for samples in (stereo, unrelated, panned, stereo[:1], stereo[:, :100], -stereo):
        np.testing.assert_array_equal(downmix(samples, RATE), samples.mean(axis=0, dtype=np.float32))


def test_an_inverted_channel_is_turned(stereo: Samples) -> None:
    inverted = stereo * np.array([[1], [-1]], np.float32)
    np.testing.assert_allclose(downmix(inverted, RATE), stereo.mean(axis=0), atol=1e-4)


def test_a_voice_that_is_inverted_in_one_channel_is_heard(stereo: Samples) -> None:
    sung = voice()
    mix = 0.3 * stereo + np.stack([sung, -sung])
    plain, found = mix.mean(axis=0), downmix(mix, RATE)
    parts = np.stack([sung, 0.3 * stereo.mean(axis=0)], axis=1)
    assert np.linalg.lstsq(parts, plain)[0] == pytest.approx([0, 1], abs=0.01)
    shares = np.linalg.lstsq(parts, found)[0]
    assert shares[0] > 0.7
    assert shares[1] > 0.7


def test_a_band_that_is_inverted_in_one_channel_is_heard(stereo: Samples) -> None:
    broken = stereo.copy()
    broken[1] -= 2 * band_of(stereo[1], 500, 3000)
    true, plain, found = (
        band_of(mix, 700, 2200) for mix in (stereo.mean(axis=0), broken.mean(axis=0), downmix(broken, RATE))
    )
    assert (plain**2).sum() < 0.1 * (true**2).sum()
    assert float(found @ true) > 0.95 * float(np.sqrt((found @ found) * (true @ true)))
    assert (found**2).sum() > 0.8 * (true**2).sum()


@pytest.mark.parametrize("rate", [RATE, 22_050, 16_000])
def test_every_analysis_hears_a_song_with_an_inverted_channel(stereo: Samples, rate: int) -> None:
    audio, inverted = Audio(stereo, RATE), Audio(stereo * np.array([[1], [-1]], np.float32), RATE)
    assert has_sound(inverted)
    np.testing.assert_allclose(mono(inverted, rate), mono(audio, rate), atol=1e-3)


def test_what_is_not_a_number_is_silent(stereo: Samples) -> None:
    samples = stereo * np.array([[1], [-1]], np.float32)
    samples[0, 1000], samples[1, 5000] = np.nan, np.inf
    assert np.isfinite(downmix(samples, RATE)).all()
