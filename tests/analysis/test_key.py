"""The key of a song, and its changes."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
from google.protobuf.json_format import ParseDict

from services.analysis.backends.base import Context, Key
from services.analysis.backends.key.blend import key_of
from services.analysis.backends.key.evidence import Evidence
from services.analysis.backends.key.librosa import key_of as key_of_chroma
from services.analysis.backends.key.madmom import MadmomKey
from services.analysis.backends.key.profiles import MAJOR_TONICS, MINOR_PROFILE, MINOR_TONICS, correlations
from services.analysis.backends.madmom import stages
from services.analysis.contents import content
from services.common.samples import Audio
from songs.key_songs import KINDS, KeySong, Passage, chord, play
from songs.small_songs import RATE, Song, add, hat, kick, snare, tone
from stemtube.analysis.v1 import music_pb2
from tests.analysis.conftest import Excerpt, LoadBackend

BACKENDS = ["blend", "madmom", "librosa"]


def find(load_backend: LoadBackend, audio: Audio, name: str = "blend") -> Key:
    return cast(Key, load_backend("key", name).analyze(audio, Context(), lambda done: None))


def named(tonic: int, mode: str) -> tuple[str, str]:
    return (MAJOR_TONICS if mode == "major" else MINOR_TONICS)[tonic], mode


def song_of(kind: str, form: int = 0, tonic: int = 2) -> KeySong:
    return play(kind, KINDS[kind][form], tonic, np.random.default_rng(5))


@pytest.mark.parametrize("name", BACKENDS)
def test_key_of_a_song(load_backend: LoadBackend, name: str, song: Song) -> None:
    found = find(load_backend, song.audio, name)
    assert (found.tonic, found.mode) == (song.tonic, song.mode)
    assert 0.3 < found.confidence <= 1
    assert [(region.start, region.end, region.tonic) for region in found.regions] == [(0, song.audio.duration, "C")]


@pytest.mark.parametrize(
    ("mode", "chords", "tonics"), [("ionian", "I IV V I", range(0, 12, 2)), ("aeolian", "i iv V7 i", range(1, 12, 2))]
)
def test_keys_round_the_circle(load_backend: LoadBackend, mode: str, chords: str, tonics: range) -> None:
    rng = np.random.default_rng(1)
    songs = [play("song", (Passage(chords, mode, 2),), tonic, rng) for tonic in tonics]
    found = [find(load_backend, song.audio) for song in songs]
    assert [(one.tonic, one.mode) for one in found] == [named(*song.regions[0][1:]) for song in songs]


@pytest.mark.parametrize(
    "kind", ["minor, leading tone", "minor, relative major chorus", "mixolydian", "dorian", "applied dominants"]
)
def test_the_key_is_not_its_relative_or_neighbour(load_backend: LoadBackend, kind: str) -> None:
    song = song_of(kind)
    found = find(load_backend, song.audio)
    assert (found.tonic, found.mode) == named(*song.regions[0][1:])
    assert len(found.regions) == 1


@pytest.mark.parametrize(
    ("kind", "form"), [("last chorus up a semitone", 0), ("last chorus up a tone", 0), ("bridge in another key", 2)]
)
def test_changes_of_key(load_backend: LoadBackend, kind: str, form: int) -> None:
    song = song_of(kind, form)
    found = find(load_backend, song.audio)
    assert (found.tonic, found.mode) == named(*song.regions[0][1:])
    keys = [named(tonic, mode) for _, tonic, mode in song.regions]
    assert [(region.tonic, region.mode) for region in found.regions] == keys
    starts = np.array([region.start for region in found.regions])
    np.testing.assert_allclose(starts, [start for start, _, _ in song.regions], atol=4)
    assert found.regions[-1].end == song.audio.duration
    message = ParseDict(content(found, {"backend": "blend"}), music_pb2.Key())
    assert [region.end for region in message.regions] == [region.end for region in found.regions]


def evidence(*stretches: tuple[int, int], whole: int) -> Evidence:
    """Certain evidence for keys, each for some seconds from 2 s on."""
    keys = np.array([key for key, seconds in stretches for _ in range(seconds)])
    probabilities = np.full((len(keys), 24), 0.01)
    probabilities[np.arange(len(keys)), keys] = 0.77
    return Evidence(2.0, np.log(probabilities), np.log(np.where(np.arange(24) == whole, 0.9, 0.1 / 23)), fit=0.8)


def test_a_short_excursion_is_no_change_of_key() -> None:
    found = key_of(evidence((0, 20), (7, 4), (0, 20), whole=0), 50.0)
    assert [(region.start, region.end, region.tonic) for region in found.regions] == [(0, 50, "C")]
    found = key_of(evidence((0, 20), (7, 25), (21, 30), whole=0), 80.0)
    assert [(region.start, region.end, region.tonic, region.mode) for region in found.regions] == [
        (0, 22, "C", "major"),
        (22, 47, "G", "major"),
        (47, 80, "A", "minor"),
    ]
    assert found.regions[1].confidence == pytest.approx(0.77)
    assert found.tonic == "C"
    assert found.confidence == pytest.approx(0.9)


def test_the_main_key_is_one_of_the_regions() -> None:
    found = key_of(evidence((0, 40), whole=7), 44.0)
    assert [(region.start, region.end, region.tonic) for region in found.regions] == [(0, 44, "G")]


def test_drums_have_no_key(load_backend: LoadBackend) -> None:
    rng = np.random.default_rng(0)
    mix = np.zeros(12 * RATE)
    for beat in range(24):
        add(mix, kick() if beat % 2 == 0 else snare(rng), beat / 2, 0.4)
        add(mix, hat(rng), beat / 2, 0.2)
    assert find(load_backend, Audio(mix.astype(np.float32)[None], RATE)) == Key("", "", 0.0)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_song_of_little_more_than_a_second(load_backend: LoadBackend, name: str) -> None:
    triad = np.sum([tone(pitch, 1.05) for pitch in (48, 60, 64, 67)], axis=0)
    audio = Audio((0.1 * triad).astype(np.float32)[None], RATE)
    found = find(load_backend, audio, name)
    assert [(region.start, region.end, region.tonic) for region in found.regions] == [(0, audio.duration, found.tonic)]
    assert found.tonic == "C" or name == "madmom"


def test_silence_around_a_song_changes_nothing(load_backend: LoadBackend, song: Song) -> None:
    quiet = np.zeros((2, 10 * RATE), np.float32)
    found = find(load_backend, Audio(np.hstack([quiet, song.audio.samples, quiet]), RATE))
    (region,) = found.regions
    assert (region.start, region.tonic) == (0, "C")
    assert region.end == pytest.approx(song.audio.duration + 20)


def test_roman_numerals() -> None:
    assert chord("I") == (0, (0, 4, 7))
    assert chord("bvii") == (10, (0, 3, 7))
    assert chord("V7") == (7, (0, 4, 7, 10))
    assert chord("iimin7") == (2, (0, 3, 7, 10))
    assert chord("iiø7") == (2, (0, 3, 6, 10))
    with pytest.raises(ValueError, match="not a Roman numeral"):
        chord("Am")


def test_madmom_gives_the_same_for_an_array_and_a_file(
    load_backend: LoadBackend, excerpt: Excerpt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = cast(MadmomKey, load_backend("key", "madmom"))
    from madmom.features.key import CNNKeyRecognitionProcessor

    audio = excerpt(6)
    file = tmp_path / "song.wav"
    soundfile.write(file, audio.samples.T, RATE, subtype="PCM_16")
    monkeypatch.setattr(stages, "FRAMES_AT_ONCE", 7)
    expected = CNNKeyRecognitionProcessor()(str(file))[0]
    np.testing.assert_allclose(backend.probabilities(audio, lambda done: None), expected, atol=2e-3)


def test_keys_from_chroma() -> None:
    found = key_of_chroma(np.roll(MINOR_PROFILE, 9), 5.0)
    assert (found.tonic, found.mode, found.regions[0].end) == ("A", "minor", 5.0)
    assert found.confidence == pytest.approx(1)
    assert key_of_chroma(np.ones(12), 5.0) == Key("", "", 0.0)
    mixed = key_of_chroma(np.roll(MINOR_PROFILE, 9) + np.roll(MINOR_PROFILE, 4), 5.0)
    assert mixed.confidence < 0.2


def test_correlations_equal_pearsons() -> None:
    chroma = np.random.default_rng(2).random((3, 12))
    expected = [np.corrcoef(np.roll(MINOR_PROFILE, 9), row)[0, 1] for row in chroma]
    np.testing.assert_allclose(correlations(chroma)[:, 12 + 9], expected)
    assert not correlations(np.ones(12)).any()
