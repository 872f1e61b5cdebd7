"""Features of a track that backends share."""

import gc
import weakref

import numpy as np
import pytest

from services.analysis.backends.signal.features import has_sound, is_tonal, mono
from services.common.samples import Audio
from songs.small_songs import RATE, Song, click_track, silence, white_noise


def test_mono_equals_what_librosa_loads(song: Song) -> None:
    import librosa

    mix = mono(song.audio, 22_050)
    expected = librosa.resample(librosa.to_mono(song.audio.samples), orig_sr=RATE, target_sr=22_050, res_type="soxr_hq")
    np.testing.assert_array_equal(mix, expected)
    assert mix.dtype == np.float32


def test_mono_is_computed_once_and_dropped_with_the_track() -> None:
    audio = white_noise(2)
    first = mono(audio, 22_050)
    assert mono(audio, 22_050) is first
    gone = weakref.ref(first)
    del audio, first
    gc.collect()
    assert gone() is None


def test_mono_is_finite_and_read_only() -> None:
    samples = np.full((2, RATE), 0.5, np.float32)
    samples[0, 100], samples[1, 200] = np.nan, np.inf
    mix = mono(Audio(samples, RATE), 22_050)
    assert np.isfinite(mix).all()
    with pytest.raises(ValueError, match="read-only"):
        mix[0] = 1


def test_sound_and_pitch(song: Song) -> None:
    assert has_sound(song.audio)
    assert is_tonal(song.audio)
    assert has_sound(white_noise(3))
    assert not is_tonal(white_noise(3))
    assert not is_tonal(click_track(3))
    assert not has_sound(silence(3))
    assert not has_sound(Audio(song.audio.samples[:, : RATE // 2], RATE))
