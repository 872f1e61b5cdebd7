"""Loudness after EBU R 128, and waveform peaks in the format that peaks.js reads."""

import struct
from pathlib import Path

import numpy as np
import pytest

from services.common.audio import Limits, PeakMeter, Peaks, Samples, inspect, peaks_of
from services.common.audio.loudness import LoudnessMeter
from services.common.errors import InvalidInputError
from songs.small_songs import music
from tests.common.audio_files import RATE, with_soundfile

STEREO = ("FL", "FR")
SURROUND = ("FL", "FR", "FC", "LFE", "BL", "BR")


def tone(rate: int, *levels_and_seconds: tuple[float, float], channels: int = 2) -> Samples:
    """A tone of 1 kHz with several peak levels in dBFS, one after another, the same in all channels."""
    envelope = np.concatenate(
        [np.full(round(seconds * rate), 10 ** (level / 20)) for level, seconds in levels_and_seconds]
    )
    wave = envelope * np.sin(2 * np.pi * 1000 * np.arange(len(envelope)) / rate)
    return np.tile(wave, (channels, 1)).astype(np.float32)


def lufs(samples: Samples, rate: int, names: tuple[str, ...] = STEREO, block: int = 10_007) -> float:
    meter = LoudnessMeter(rate, names)
    for start in range(0, samples.shape[1], block):
        meter.add(samples[:, start : start + block])
    return meter.lufs()


@pytest.mark.parametrize("rate", [1, 70, 1000, 3300])
def test_sound_of_a_very_low_sample_rate_has_a_loudness(rate: int) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 60 * rate)).astype(np.float32)
    assert -40 < lufs(noise, rate) < 0


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("level", [-23.0, -33.0])
def test_a_stereo_tone_is_as_loud_as_its_level(rate: int, level: float) -> None:
    """Cases 1 and 2 of EBU Tech 3341."""
    assert lufs(tone(rate, (level, 20)), rate) == pytest.approx(level, abs=0.1)


@pytest.mark.parametrize(
    "levels",
    [
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
)
def test_quiet_passages_are_gated(levels: list[tuple[float, float]]) -> None:
    """Cases 3 to 5 of EBU Tech 3341."""
    assert lufs(tone(48000, *levels), 48000) == pytest.approx(-23.0, abs=0.1)


def test_surround_channels_weigh_more_and_the_lfe_nothing() -> None:
    """Case 6 of EBU Tech 3341, with a loud LFE."""
    samples = np.concatenate([tone(48000, (level, 20), channels=1) for level in (-28, -28, -24, -6, -30, -30)])
    assert lufs(samples, 48000, SURROUND) == pytest.approx(-23.0, abs=0.1)


def test_silence_and_very_short_sounds_have_the_lowest_loudness() -> None:
    assert lufs(np.zeros((2, 48000), np.float32), 48000) == -70.0
    assert lufs(tone(48000, (-20, 0.3)), 48000) == -70.0


def test_blocks_of_any_size_give_the_same_loudness() -> None:
    song = music(5.0)
    assert lufs(song, RATE, block=997) == pytest.approx(lufs(song, RATE, block=10**9), abs=1e-9)


def test_inspect_measures_a_file(tmp_path: Path) -> None:
    song = music(5.0, channels=1)
    inspection = inspect(with_soundfile(tmp_path / "song.wav", song, subtype="FLOAT"), Limits())
    assert inspection.loudness_lufs == pytest.approx(lufs(song, RATE, ("FC",)), abs=1e-6)
    assert inspection.info.samples == song.shape[1]
    assert np.array_equal(inspection.peaks.pairs, peaks_of(song, RATE).pairs)


def test_peaks_are_the_envelope_of_all_channels() -> None:
    samples = np.zeros((2, 44100), np.float32)
    samples[0, 500], samples[1, 600], samples[1, 44099] = 0.5, -0.25, 1.5
    peaks = peaks_of(samples, RATE)
    assert (peaks.sample_rate_hz, peaks.samples_per_pixel, peaks.pairs.shape) == (RATE, 441, (100, 2))
    assert peaks.pairs[1].tolist() == [-32, 64]
    assert peaks.pairs[99].tolist() == [0, 127]
    assert not peaks.pairs[2:99].any()


def test_peaks_from_blocks_equal_peaks_at_once() -> None:
    song = music(2.345)
    meter = PeakMeter(RATE)
    for start in range(0, song.shape[1], 1000):
        meter.add(song[:, start : start + 1000])
    assert np.array_equal(meter.peaks().pairs, peaks_of(song, RATE).pairs)
    assert len(meter.peaks().pairs) == -(-song.shape[1] // 441)


def test_the_bytes_are_an_audiowaveform_file() -> None:
    peaks = peaks_of(music(1.0), RATE)
    data = peaks.to_bytes()
    assert struct.unpack_from("<iIiiIi", data) == (2, 1, RATE, 441, 100, 1)
    assert len(data) == 24 + 2 * 100
    assert struct.unpack_from("<2b", data, 24 + 2 * 7) == tuple(peaks.pairs[7])
    again = Peaks.from_bytes(data)
    assert np.array_equal(again.pairs, peaks.pairs)
    assert (again.sample_rate_hz, again.samples_per_pixel) == (RATE, 441)


@pytest.mark.parametrize("damage", [b"", b"short", bytes(24), b"\x02" + bytes(40)])
def test_malformed_peaks_are_refused(damage: bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Peaks.from_bytes(damage)
    assert caught.value.reason == "NOT_PEAKS"
