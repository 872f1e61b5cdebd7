"""Sections: boundaries, similarity, names."""

import itertools
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from services.analysis.backends.base import Beat, Beats, Context, Structure
from services.analysis.backends.signal.features import mono
from services.analysis.backends.structure import msaf as structure_msaf
from songs.small_songs import Song, pop_song
from tests.analysis.conftest import LoadBackend


@pytest.fixture(scope="module")
def two_themes() -> Song:
    """48 s: two themes of two chords each, in turn."""
    verse, chorus = ["C:maj", "A:min"] * 3, ["E:maj", "F#:min"] * 3
    return pop_song((verse + chorus) * 2, bpm=120)


@pytest.fixture(scope="module")
def profiles(load_backend: LoadBackend, two_themes: Song) -> Any:
    load_backend("structure", "msaf")
    return structure_msaf.beat_profiles(mono(two_themes.audio, 22_050), lambda done: None)


def test_sections_cover_the_song_and_begin_on_downbeats(load_backend: LoadBackend, two_themes: Song) -> None:
    positions = [i % 4 + 1 for i in range(len(two_themes.beats))]
    beats = Beats(tuple(map(Beat, two_themes.beats.tolist(), positions)), two_themes.bpm, 1.0, 4)
    backend = load_backend("structure", "msaf")
    sections = cast(Structure, backend.analyze(two_themes.audio, Context(beats), lambda done: None)).sections
    assert len(sections) >= 3
    assert sections[0].start == 0
    assert sections[-1].end == two_themes.audio.duration
    assert all(one.end == other.start for one, other in itertools.pairwise(sections))
    for other in [section for section in sections if section.label != "silence"][1:]:
        assert np.abs(two_themes.downbeats - other.start).min() < 1e-6
    assert all(0 <= section.confidence <= 1 for section in sections)


def test_boundaries_from_an_array_equal_msafs_from_a_file(
    profiles: Any, two_themes: Song, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msaf

    monkeypatch.chdir(tmp_path)  # msaf writes what it computes into the working directory
    soundfile.write("song.wav", two_themes.audio.samples.T, two_themes.audio.sample_rate_hz, subtype="FLOAT")
    expected, _ = msaf.process("song.wav", boundaries_id="sf", labels_id=None)
    units = structure_msaf.boundaries(profiles)
    np.testing.assert_allclose(expected[1:-1], profiles.frame_times[units])


def test_a_theme_that_returns_is_recognised(profiles: Any, two_themes: Song) -> None:
    bars = np.arange(0, 25, 6) * 2.0 + 0.5
    units = np.array([int(np.abs(profiles.frame_times - time).argmin()) for time in bars])
    groups, silhouettes = structure_msaf.section_groups(profiles.features, units)
    assert groups[0] == groups[2] != groups[1] == groups[3]
    assert silhouettes.min() > 0


def test_hpss_in_blocks_equals_hpss_of_the_whole(two_themes: Song, monkeypatch: pytest.MonkeyPatch) -> None:
    import librosa

    mix = mono(two_themes.audio, 22_050)[: 10 * 22_050]
    monkeypatch.setattr(structure_msaf, "_HPSS_BLOCK_FRAMES", 150)
    parts = structure_msaf.harmonic_percussive(mix, lambda done: None)
    for part, expected in zip(parts, librosa.effects.hpss(mix), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-6)


def test_silhouette() -> None:
    points = np.array([0.0, 1.0, 10.0, 12.0, 50.0])
    values = structure_msaf.silhouette(np.abs(points[:, None] - points), np.array([4, 4, 7, 7, 9]))
    np.testing.assert_allclose(values, [1 - 1 / 11, 1 - 1 / 10, 1 - 2 / 9.5, 1 - 2 / 11.5, 0])
