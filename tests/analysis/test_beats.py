"""Beats, downbeats, tempo."""

import json
from pathlib import Path
from typing import cast

import mir_eval
import numpy as np
import pytest
import soundfile
from google.protobuf.json_format import ParseDict

from services.analysis.backends.base import Beat, Beats, Context, TempoPoint
from services.analysis.backends.beats.madmom import MadmomBeats
from services.analysis.backends.madmom import stages
from services.analysis.backends.madmom.bar_decoder import BarDecoder
from services.analysis.backends.signal.librosa_beats import best_level, periodicity
from services.analysis.backends.signal.tempo import changes_of_tempo, curve_of, in_range, tempo_of
from services.analysis.contents import beats_of, content
from songs.small_songs import RATE, Song, pop_song
from stemtube.analysis.v1 import music_pb2
from tests.analysis.conftest import Excerpt, LoadBackend


def analyze(load_backend: LoadBackend, name: str, song: Song) -> Beats:
    return cast(Beats, load_backend("beats", name).analyze(song.audio, Context(), lambda done: None))


@pytest.mark.parametrize("name", ["madmom", "librosa"])
def test_beats_and_tempo_of_a_song(load_backend: LoadBackend, name: str, song: Song) -> None:
    found = analyze(load_backend, name, song)
    times = np.array([beat.time for beat in found.beats])
    assert found.bpm == pytest.approx(song.bpm, rel=0.02)
    assert mir_eval.beat.f_measure(song.beats, times) > 0.95
    assert 0.4 < found.confidence <= 1


@pytest.mark.parametrize("beats_per_bar", [3, 4])
def test_madmom_finds_the_bars(load_backend: LoadBackend, beats_per_bar: int) -> None:
    song = pop_song(["C:maj", "F:maj", "G:maj", "C:maj"], bpm=132, beats_per_bar=beats_per_bar)
    found = analyze(load_backend, "madmom", song)
    downbeats = np.array([beat.time for beat in found.beats if beat.position == 1])
    assert found.beats_per_bar == beats_per_bar
    assert mir_eval.beat.f_measure(song.downbeats, downbeats) > 0.8


def test_librosa_reports_that_it_finds_no_bars(load_backend: LoadBackend, song: Song) -> None:
    found = analyze(load_backend, "librosa", song)
    assert found.beats_per_bar == 0
    assert {beat.position for beat in found.beats} == {0}


def test_madmom_gives_the_same_for_an_array_and_a_file(
    load_backend: LoadBackend, excerpt: Excerpt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

    audio = excerpt(8)
    file = tmp_path / "song.wav"
    soundfile.write(file, audio.samples.T, RATE, subtype="PCM_16")
    expected = RNNDownBeatProcessor()(str(file))
    monkeypatch.setattr(stages, "FRAMES_AT_ONCE", 300)
    backend = cast(MadmomBeats, load_backend("beats", "madmom"))
    # 16 bits and floats differ by half a step of quantisation, nothing else.
    np.testing.assert_allclose(backend.activations(audio, lambda done: None), expected, atol=2e-3)
    pulses = backend.pulses(expected, lambda done: None)
    tracked = DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)(expected)
    np.testing.assert_allclose(np.transpose(pulses), tracked)


@pytest.mark.parametrize("frames", [37, 150, 1500])
def test_the_bar_decoder_finds_the_path_that_madmom_finds(load_backend: LoadBackend, frames: int) -> None:
    load_backend("beats", "madmom")
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor

    tracker = DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)
    chances = np.random.default_rng(5).dirichlet([0.1, 0.1, 5], frames)[:, :2].astype(np.float32)
    chances[::45, 0] += 0.3
    chances = np.clip(chances, 1e-6, 0.49)
    for hmm in tracker.hmms:
        path, score = BarDecoder(hmm, lambda done: None).viterbi(chances)
        expected_path, expected_score = hmm.viterbi(chances)
        np.testing.assert_array_equal(path, expected_path)
        assert score == pytest.approx(expected_score)


def test_tempo_is_robust() -> None:
    exact = 0.3 + np.arange(64) * 60 / 150
    on_frames = np.round(exact, 2)
    assert tempo_of(on_frames) == pytest.approx(150, rel=1e-3)
    assert tempo_of(np.delete(on_frames, [20, 21, 40])) == pytest.approx(150, rel=1e-3)
    assert tempo_of(exact[:2]) == pytest.approx(150)
    assert tempo_of(exact[:1]) == 0


def test_a_curve_where_the_tempo_changes() -> None:
    steady = np.round(np.arange(80) * 0.5, 2)
    assert curve_of(steady) == ()
    assert curve_of(steady[:10]) == ()
    slowing = np.cumsum(np.linspace(0.5, 0.6, 80))
    curve = curve_of(slowing)
    assert [point.time for point in curve] == list(slowing[::4])
    middles, tempi = (slowing[1:] + slowing[:-1]) / 2, 60 / np.diff(slowing)
    inside = [point for point in curve if middles[8] < point.time < middles[-9]]
    for point in inside:
        assert point.bpm == pytest.approx(np.interp(point.time, middles, tempi), rel=0.005)


@pytest.mark.parametrize(("before", "after"), [(100, 140), (120, 90), (60, 102), (100, 104)])
def test_a_sudden_change_of_tempo(before: float, after: float) -> None:
    times = np.concatenate([0.3 + 60 / before * np.arange(40), 0.3 + 60 / before * 40 + 60 / after * np.arange(70)])
    times = np.round(times, 2)
    assert [abs(beat - 40) <= 1 for beat in changes_of_tempo(times)] == [True]
    assert tempo_of(times) == pytest.approx(after, rel=2e-3)
    tempi = [point.bpm for point in curve_of(times)]
    assert tempi[:9] == pytest.approx([before] * 9, rel=5e-3)
    assert tempi[11:] == pytest.approx([after] * len(tempi[11:]), rel=5e-3)


def test_no_sudden_change_in_steady_drifting_and_slipping_beats() -> None:
    steady = 0.5 * np.arange(100)
    assert changes_of_tempo(np.round(steady, 2)) == []
    assert changes_of_tempo(np.round(steady * 43) / 43) == []
    assert changes_of_tempo(np.where(np.arange(100) < 50, steady, steady + 0.25)) == []
    assert changes_of_tempo(np.cumsum(0.5 * (1 + 0.08 * np.sin(2 * np.pi * np.arange(100) / 40)))) == []
    assert changes_of_tempo(np.cumsum(np.random.default_rng(1).normal(0.5, 0.015, 100))) == []


def test_beats_survive_storing() -> None:
    found = Beats((Beat(0.5, 4), Beat(1.0, 1)), 120.0, 0.5, 4, (TempoPoint(0.5, 119.0),))
    kept = json.loads(json.dumps(content(found, {"backend": "madmom"})))
    message = ParseDict(kept, music_pb2.Beats())
    assert message.first_downbeat == 1.0
    assert [(point.time, point.bpm) for point in message.tempo.curve] == [(0.5, 119.0)]
    assert beats_of(kept) == found
    del kept["tempo"]["curve"], kept["first_downbeat"]
    assert beats_of(kept).curve == ()


@pytest.mark.parametrize(("bpm", "expected"), [(120, 120), (240, 120), (50, 100), (500, 125), (0, 0)])
def test_tempo_octaves(bpm: float, expected: float) -> None:
    assert in_range(bpm) == expected


def test_periodicity() -> None:
    pulses = np.zeros(1000, np.float32)
    pulses[::20] = 1
    assert periodicity(pulses, 20) > 0.95
    assert periodicity(pulses, 13) < 0.05
    assert periodicity(np.ones(1000, np.float32), 20) == 0


@pytest.mark.parametrize(
    ("weak", "price", "beat"), [(0.0, 0.0, 40), (0.3, 0.0, 40), (0.7, 0.0, 20), (1.0, 0.0, 20), (1.0, 9.0, 40)]
)
def test_librosa_chooses_the_level_by_onsets_on_and_between_beats(weak: float, price: float, beat: int) -> None:
    """Onsets every 20 frames (129 BPM), every second one so strong against the others: weak ones are quavers at 65.

    The price is of a beat on every onset.
    """
    onsets = np.zeros(1600, np.float32)
    onsets[10::40], onsets[30::40] = 1.0, weak
    bass = np.zeros_like(onsets)
    bass[10::40] = 1.0
    ways = [(np.arange(10, 1590, step), against) for step, against in ((10, 0.0), (20, price), (40, 0.0))]
    np.testing.assert_array_equal(best_level(ways, onsets, bass), np.arange(10, 1590, beat))


def test_librosa_has_no_level_where_nothing_was_tracked() -> None:
    assert best_level([], np.ones(9, np.float32), np.ones(9, np.float32)).size == 0
