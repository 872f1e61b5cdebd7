"""Levels, bars and phases of beats, from made-up evidence."""

import mir_eval
import numpy as np
import pytest

from services.analysis.backends.beats.bars import find_bars
from services.analysis.backends.beats.evidence import FRAMES_PER_SECOND, Evidence, Floats
from services.analysis.backends.beats.grid import on_grids
from services.analysis.backends.beats.levels import Level
from services.analysis.backends.signal.spectra import Spectrum


def evidence_of(places: Floats, strength: float = 2.0, noise: float = 1.0, seed: int = 1) -> Floats:
    """Evidence for downbeats, at beats with these places in their bars."""
    found = np.where(places == 1, strength, 0.0) + noise * np.random.default_rng(seed).standard_normal(len(places))
    return np.asarray(found - found.mean())


def bars_of(meter: int, beats: int = 60, upbeat: int = 0) -> Floats:
    return np.asarray((np.arange(beats) - upbeat) % meter + 1.0, np.float64)


@pytest.mark.parametrize("meter", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("tracked", [3, 4])
def test_the_meter_and_an_upbeat_are_found(meter: int, tracked: int) -> None:
    places = bars_of(meter, upbeat=1)
    np.testing.assert_array_equal(find_bars(evidence_of(places, noise=0.3), tracked, ternary=False), places)


def test_without_evidence_a_bar_has_four_beats() -> None:
    nothing = evidence_of(bars_of(4), strength=0.0)
    assert find_bars(nothing, 4, ternary=False).max() == 4


@pytest.mark.parametrize("meter", [2, 4])
def test_triple_beats_are_grouped_in_twos_or_fours(meter: int) -> None:
    assert find_bars(evidence_of(bars_of(meter), noise=0.5), 4, ternary=True).max() == meter


def test_one_bar_may_be_shorter() -> None:
    places = np.concatenate([bars_of(4, 32), bars_of(4, 2), bars_of(4, 32)])
    found = find_bars(evidence_of(places, noise=0.3), 4, ternary=False)
    np.testing.assert_array_equal(found, places)


def test_one_misleading_beat_does_not_change_the_bars() -> None:
    evidence = evidence_of(bars_of(4), noise=0.3)
    evidence[30] = 3.0
    np.testing.assert_array_equal(find_bars(evidence, 4, ternary=False), bars_of(4))


def test_levels() -> None:
    pulses: Floats = np.arange(13, dtype=np.float64) * 0.5
    np.testing.assert_allclose(Level(start=3, step=2).beats(pulses), np.arange(0.5, 6.1, 1.0))
    np.testing.assert_allclose(Level(start=2, step=0.5).beats(pulses), np.arange(0.0, 6.1, 0.25))
    np.testing.assert_allclose(Level(start=1, step=1.5).beats(pulses), np.arange(0.5, 6.1, 0.75))
    pulses[[2, 3]] += 0.1
    np.testing.assert_allclose(Level(start=1, step=1, reliable_every=3).beats(pulses), np.arange(13) * 0.5)


def heard(times: Floats, strengths: Floats, seconds: float) -> Evidence:
    """A song whose network hears beats at these times, and that has no harmony."""
    activations = np.full((round(seconds * FRAMES_PER_SECOND), 2), 0.01, np.float32)
    activations[np.round(times * FRAMES_PER_SECOND).astype(int), 0] = strengths
    nothing = np.zeros((round(seconds * 22), 12), np.float32)
    return Evidence(activations, Spectrum(nothing, nothing, nothing), seconds)


@pytest.mark.parametrize("drift", [0.0, 0.05])
def test_off_beats_are_left_alone_if_the_tempo_is_exact(drift: float) -> None:
    beats = 0.3 + np.cumsum(0.5 * (1 + drift * np.sin(np.arange(60) / 5)))
    off_beats = (beats[:-1] + beats[1:]) / 2
    times = np.concatenate([beats, off_beats])
    song = heard(times, np.concatenate([np.repeat([0.7, 0.3], [35, 25]), np.repeat([0.1, 0.4], [35, 24])]), 40.0)
    tracked = np.concatenate([beats[:35], off_beats[35:]])
    one = on_grids(tracked, song)
    np.testing.assert_allclose(one, tracked if drift else beats[: len(one)], atol=0.01)
    assert len(one) >= len(beats) - 1


def test_each_of_two_exact_tempi_keeps_its_own_phase() -> None:
    """The tracker follows the off-beats at the end of the first tempo and at the beginning of the second."""
    slow, fast = 0.3 + 0.6 * np.arange(40), 24.3 + 60 / 140 * np.arange(56)
    beats = np.concatenate([slow, fast])
    off_beats = (beats[:-1] + beats[1:]) / 2
    song = heard(np.concatenate([beats, off_beats]), np.repeat([0.7, 0.2], [len(beats), len(off_beats)]), 50.0)
    tracked = np.concatenate([beats[:34], off_beats[34:46], beats[47:]])
    moved = on_grids(tracked, song)
    assert mir_eval.beat.f_measure(beats, moved) > 0.98
    assert np.diff(moved).min() > 0.2
