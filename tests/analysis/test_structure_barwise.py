"""Sections from bars: each step, and the result for songs whose sections are known."""

import itertools
from dataclasses import dataclass

import mir_eval
import numpy as np
import pytest

from services.analysis.backends.base import Beat, Beats, Context, Structure
from services.analysis.backends.signal import spectra
from services.analysis.backends.signal.features import mono
from services.analysis.backends.structure import bars as structure_bars
from services.analysis.backends.structure import boundaries as structure_boundaries
from services.analysis.backends.structure.barwise import BarwiseStructure
from services.analysis.backends.structure.groups import section_groups
from services.common.samples import Audio
from songs.small_songs import RATE, add, hat, kick, snare
from songs.song import Truth, demo_song, short_song


@dataclass(frozen=True)
class KnownSong:
    """The demo song: intro, verse, chorus, half a verse, chorus, outro in 79 s."""

    audio: Audio
    truth: Truth

    @property
    def downbeats(self) -> list[float]:
        return [time for time, position in self.truth.beats if position == 1]

    def beats(self, shift: int = 0, bars: bool = True) -> Beats:
        """A tracker's beats, with downbeats a few beats late or without bars."""
        beats = [Beat(time, (place - 1 - shift) % 4 + 1 if bars else 0) for time, place in self.truth.beats]
        return Beats(tuple(beats), self.truth.tempo_bpm, 1.0, 4 if bars else 0)


@pytest.fixture(scope="module")
def known() -> KnownSong:
    song = demo_song()
    return KnownSong(Audio(song.mix, RATE), song.truth)


@pytest.fixture(scope="module")
def spectrum(known: KnownSong) -> spectra.Spectrum:
    return spectra.spectrum(mono(known.audio, spectra.SAMPLE_RATE_HZ), lambda done: None)


def analyse(audio: Audio, beats: Beats | None) -> Structure:
    structure = BarwiseStructure().analyze(audio, Context(beats), lambda done: None)
    assert structure.sections[0].start == 0
    assert structure.sections[-1].end == audio.duration
    assert all(one.end == other.start for one, other in itertools.pairwise(structure.sections))
    assert all(0 <= section.confidence <= 1 for section in structure.sections)
    return structure


def boundary_f(known: KnownSong, structure: Structure, seconds: float) -> float:
    true = np.array([section[:2] for section in known.truth.sections])
    found = np.array([(section.start, section.end) for section in structure.sections])
    return float(mir_eval.segment.detection(true, found, window=seconds)[2])


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_sections_start_on_true_downbeats_even_where_the_trackers_are_off(known: KnownSong, shift: int) -> None:
    structure = analyse(known.audio, known.beats(shift))
    assert boundary_f(known, structure, 0.5) > 0.85
    sections = [section for section in structure.sections if section.label != "silence"]
    for section in sections[1:]:
        assert min(abs(section.start - downbeat) for downbeat in known.downbeats) < 1e-6
    labels = [section.label for section in sections]
    assert labels[:3] == ["intro", "verse", "chorus"]
    assert labels[-2:] == ["chorus", "outro"]
    groups = {section.group for section in structure.sections if section.label == "chorus"}
    assert len(groups) == 1


def test_beats_without_bars_are_enough(known: KnownSong) -> None:
    assert boundary_f(known, analyse(known.audio, known.beats(bars=False)), 0.5) > 0.85


def test_without_beats_librosa_tracks_them(known: KnownSong) -> None:
    assert boundary_f(known, analyse(known.audio, None), 0.5) > 0.85


def test_without_a_pulse_a_bar_is_two_seconds(known: KnownSong, spectrum: spectra.Spectrum) -> None:
    bars = structure_bars.find_bars(spectrum, Beats((), 0.0, 0.0, 0), known.audio.duration)
    assert np.diff(bars.starts) == pytest.approx(2.0)
    assert len(bars.starts) == known.audio.duration // 2 + 1


def test_bars_cover_the_whole_song(known: KnownSong, spectrum: spectra.Spectrum) -> None:
    middle = tuple(beat for beat in known.beats().beats if 20 < beat.time < 60)
    bars = structure_bars.find_bars(spectrum, Beats(middle, 112, 1.0, 4), known.audio.duration)
    np.testing.assert_allclose(bars.starts[: len(known.downbeats)], known.downbeats)
    assert known.audio.duration - bars.starts[-1] < 2 * 60 / 112 * 4
    np.testing.assert_allclose(np.diag(bars.likeness), 1.0)


def test_bars_of_the_same_passage_are_alike(known: KnownSong, spectrum: spectra.Spectrum) -> None:
    likeness = structure_bars.find_bars(spectrum, known.beats(), known.audio.duration).likeness
    chorus, again, verse = 12, 24, 4
    same = [likeness[chorus + bar, again + bar] for bar in range(8)]
    other = [likeness[chorus + bar, verse + bar] for bar in range(8)]
    assert min(same) > 0.7
    assert max(other) < 0.5


def test_the_spectrum_does_not_depend_on_blocks(known: KnownSong, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = mono(known.audio, spectra.SAMPLE_RATE_HZ)[: 200 * spectra.HOP + 77]
    told: list[float] = []
    whole = spectra.spectrum(mix, told.append)
    monkeypatch.setattr(spectra, "_BLOCK_FRAMES", 30)
    blocks = spectra.spectrum(mix, told.append)
    assert told == [1.0, *(min(1.0, 30 * i / 201) for i in range(1, 8))]
    np.testing.assert_allclose(blocks.chroma, whole.chroma, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(blocks.mel, whole.mel, rtol=1e-4, atol=1e-4)


def test_repetitions_along_diagonals_equal_those_of_the_time_lag_matrix() -> None:
    points = np.random.default_rng(1).standard_normal((30, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    likeness = points @ points.T
    features, repetition = structure_boundaries._repetitions(likeness)
    width, long = structure_boundaries._FEATURES_BARS, structure_boundaries._REPETITION_BARS
    for bar in range(width, 30 - width + 1):
        changes, begun = [], []
        for lag in [lag for lag in range(-bar, 30 - bar) if lag]:
            here = [j for j in range(30) if 0 <= j + lag < 30]
            row = {j: likeness[j, j + lag] for j in here}
            before, after = ([row.get(bar + k) for k in span] for span in (range(-width, 0), range(width)))
            if None not in before + after:
                squares = [np.mean(np.maximum(np.array(side, float), 0) ** 2) for side in (before, after)]
                changes.append((squares[1] - squares[0]) ** 2)
            following = [row[j] for j in range(bar, bar + long) if j in row]
            preceding = [row[j] for j in range(bar - long, bar) if j in row]
            if len(following) == long:
                begun.append(max(0, np.mean(following)) * (np.mean(following) - np.mean(preceding or [0.0])))
        assert features[bar] == pytest.approx(np.sqrt(np.mean(changes)))
        top = sorted([-1.0, -1.0, *begun])[-2:]
        assert repetition[bar] == pytest.approx(max(0.0, np.mean(top)))


def test_the_chosen_division_has_the_best_score() -> None:
    log_odds = np.random.default_rng(3).normal(-1.0, 1.5, 13)
    times = np.arange(14, dtype=np.float64) * 2.5
    found = structure_boundaries._divide(log_odds, times)

    def score(chosen: tuple[int, ...]) -> float:
        """By the definition, section by section."""
        total = float(sum(log_odds[bar] for bar in chosen))
        edges = [0, *chosen, 13]
        for start, end in itertools.pairwise(edges):
            at_end = start == 0 or end == 13
            length, seconds = end - start, times[end] - times[start]
            if length < 2 and not at_end:
                return -np.inf
            uneven = next(price for unit, price in structure_boundaries._UNEVEN.items() if length % unit == 0)
            octaves = -2.0 * np.log(seconds / 16) ** 2
            total += (0.3 if at_end else 1.0) * uneven + (0.3 if at_end and seconds < 16 else 1.0) * octaves
        return total

    candidates = (c for n in range(13) for c in itertools.combinations(range(1, 13), n))
    assert found == [0, *max(candidates, key=score)]


def test_sections_of_one_kind_may_differ_in_length() -> None:
    kinds = np.repeat([0, 1, 0, 2, 1], [8, 8, 4, 6, 8])
    place = np.concatenate([np.arange(8), np.arange(8), np.arange(4) + 4, np.arange(6), np.arange(8)])
    likeness = np.where((kinds[:, None] == kinds) & (place[:, None] == place), 0.9, 0.0)
    assert section_groups(likeness, [0, 8, 16, 20, 26]) == [0, 1, 0, 2, 1]
    assert section_groups(likeness, [0]) == [0]


def test_an_hour_of_bars_is_fast() -> None:
    count = 1800
    bars = structure_bars.Bars(
        starts=np.arange(count, dtype=np.float64) * 2.0,
        likeness=np.eye(count),
        timbre=np.random.default_rng(0).standard_normal((count, 64)),
        levels=np.zeros(count),
        cymbals=np.zeros(count),
    )
    boundaries = structure_boundaries.find_boundaries(bars, 3600.0)
    assert 100 < len(boundaries.bars) < 900
    assert len(section_groups(bars.likeness, boundaries.bars)) == len(boundaries.bars)


def test_a_voice_alone() -> None:
    vocals = short_song().stems["vocals"]
    analyse(Audio(vocals, RATE), None)


def test_drums_alone() -> None:
    rng = np.random.default_rng(2)
    mix = np.zeros(30 * RATE)
    for beat in range(56):
        add(mix, kick() if beat % 2 == 0 else snare(rng), beat * 0.5, 0.8)
        add(mix, hat(rng), beat * 0.5 + 0.25, 0.3)
    analyse(Audio(mix.astype(np.float32)[None], RATE), None)


def test_a_tracker_that_changes_metre_and_loses_the_beat(known: KnownSong) -> None:
    beats = [
        Beat(beat.time, i % 3 + 1 if i < 40 else beat.position)
        for i, beat in enumerate(known.beats().beats)
        if not 80 <= i < 110
    ]
    assert boundary_f(known, analyse(known.audio, Beats(tuple(beats), 112, 1.0, 4)), 3.0) > 0.5
