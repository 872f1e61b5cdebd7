"""The key of a song."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile

from services.analysis.backends import madmom_stages
from services.analysis.backends.base import Context, Key
from services.analysis.backends.key_librosa import MINOR_PROFILE, key_of
from services.analysis.backends.key_madmom import MadmomKey
from tests.analysis.conftest import Excerpt, LoadBackend
from tests.analysis.songs import RATE, Song


@pytest.mark.parametrize("name", ["madmom", "librosa"])
def test_key_of_a_song(load_backend: LoadBackend, name: str, song: Song) -> None:
    found = cast(Key, load_backend("key", name).analyze(song.audio, Context(), lambda done: None))
    assert (found.tonic, found.mode) == (song.tonic, song.mode)
    assert 0.3 < found.confidence <= 1


def test_madmom_gets_from_an_array_what_it_gets_from_a_file(
    load_backend: LoadBackend, excerpt: Excerpt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = cast(MadmomKey, load_backend("key", "madmom"))
    from madmom.features.key import CNNKeyRecognitionProcessor

    audio = excerpt(6)
    file = tmp_path / "song.wav"
    soundfile.write(file, audio.samples.T, RATE, subtype="PCM_16")
    monkeypatch.setattr(madmom_stages, "FRAMES_AT_ONCE", 7)
    expected = CNNKeyRecognitionProcessor()(str(file))[0]
    np.testing.assert_allclose(backend.probabilities(audio, lambda done: None), expected, atol=2e-3)


def test_keys_from_chroma() -> None:
    found = key_of(np.roll(MINOR_PROFILE, 9))
    assert (found.tonic, found.mode) == ("A", "minor")
    assert found.confidence == pytest.approx(1)
    assert key_of(np.ones(12)) == Key("", "", 0.0)
    mixed = key_of(np.roll(MINOR_PROFILE, 9) + np.roll(MINOR_PROFILE, 4))
    assert mixed.confidence < 0.2
