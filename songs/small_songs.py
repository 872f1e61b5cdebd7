"""Synthetic songs whose tempo, key, chords and sections are known exactly."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.samples import Audio, Samples

RATE = 44_100
PITCH_CLASSES = {"C": 0, "C#": 1, "D": 2, "Eb": 3, "E": 4, "F": 5, "F#": 6, "G": 7, "Ab": 8, "A": 9, "Bb": 10, "B": 11}
Wave = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Song:
    """A song and its true beats, chords and so on; times in seconds."""

    audio: Audio
    bpm: float
    beats_per_bar: int
    tonic: str
    mode: str
    beats: npt.NDArray[np.float64]
    chords: list[tuple[float, float, str]]

    @property
    def downbeats(self) -> npt.NDArray[np.float64]:
        """Times of the first beats of all bars."""
        return self.beats[:: self.beats_per_bar]


def tone(pitch: float, seconds: float, harmonics: int = 6) -> Wave:
    """A plucked note: `pitch` is a MIDI number; the level of partials is 1/n, and all have the same decay."""
    t = np.arange(round(seconds * RATE)) / RATE
    hz = 440.0 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2 * np.pi * hz * n * t) / n for n in range(1, harmonics + 1))
    fade = np.minimum(1, np.minimum(t / 0.005, (seconds - t) / 0.02))
    return np.asarray(wave * np.exp(-1.2 * t) * fade)


def kick() -> Wave:
    """A bass drum: a tone that falls from 250 to 50 Hz."""
    t = np.arange(round(0.18 * RATE)) / RATE
    return np.asarray(np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-t * 35)))) * np.exp(-t * 18))


def snare(rng: np.random.Generator) -> Wave:
    """A snare drum: noise over a short tone."""
    t = np.arange(round(0.15 * RATE)) / RATE
    return 0.6 * rng.standard_normal(t.size) * np.exp(-t * 25) + 0.5 * np.sin(2 * np.pi * 190 * t) * np.exp(-t * 22)


def hat(rng: np.random.Generator) -> Wave:
    """A closed hi-hat: bright noise of 50 ms."""
    t = np.arange(round(0.05 * RATE)) / RATE
    return np.diff(rng.standard_normal(t.size + 1)) * np.exp(-t * 90) * 0.3


def add(mix: Wave, wave: Wave, at: float, gain: float) -> None:
    """Adds a sound to a mix at a time in seconds."""
    start = round(at * RATE)
    end = min(mix.size, start + wave.size)
    mix[start:end] += gain * wave[: end - start]


def pop_song(
    bars: list[str] | None = None, bpm: float = 100, beats_per_bar: int = 4, lead_in: float = 0.5, seed: int = 1
) -> Song:
    """Drums, bass and chords, one chord per bar (`C:maj`, `A:min` …); C major, I vi IV V, 12 bars by default."""
    bars = bars or ["C:maj", "A:min", "F:maj", "G:maj"] * 3
    rng = np.random.default_rng(seed)
    beat = 60 / bpm
    bar = beat * beats_per_bar
    mix = np.zeros(round((lead_in + bar * len(bars) + 0.5) * RATE))
    chords = [(0.0, lead_in, "N")]
    for i, label in enumerate(bars):
        at = lead_in + i * bar
        root, quality = label.split(":")
        pitch = PITCH_CLASSES[root]
        third = 4 if quality == "maj" else 3
        for j in range(beats_per_bar):
            start = at + j * beat
            for interval in (0, third, 7, 12):
                add(mix, tone(60 + (pitch + interval) % 12, beat * 0.98), start, 0.10)
            add(mix, tone(36 + pitch, beat * 0.95, harmonics=4), start, 0.25)
            add(mix, hat(rng), start, 0.25)
            add(mix, hat(rng), start + beat / 2, 0.15)
            if j == 0 or (beats_per_bar == 4 and j == 2):
                add(mix, kick(), start, 0.8 if j == 0 else 0.55)
            else:
                add(mix, snare(rng), start, 0.35)
        chords.append((at, lead_in + (i + 1) * bar, label))
    chords.append((chords[-1][1], mix.size / RATE, "N"))
    stereo = np.stack([mix, mix * 0.9]) * 0.6
    beats = np.asarray(lead_in + beat * np.arange(len(bars) * beats_per_bar), np.float64)
    tonic, _, quality = bars[0].partition(":")
    mode = "major" if quality == "maj" else "minor"
    return Song(Audio(stereo.astype(np.float32), RATE), bpm, beats_per_bar, tonic, mode, beats, chords)


def music(seconds: float = 3.0, rate: int = RATE, channels: int = 2, seed: int = 1) -> Samples:
    """Decaying tones over a little noise: float32 [channels, samples], peaks near 0.6, no two channels equal."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed)
    tones = [
        0.5 * np.sin(2 * np.pi * min(220 * (1 + channel / 4), rate / 8) * time) * np.exp(-3 * (time % 0.5))
        for channel in range(channels)
    ]
    return (np.array(tones) + noise.normal(0, 0.02, (channels, len(time)))).astype(np.float32)


def silence(seconds: float = 6.0) -> Audio:
    """A stereo track without sound."""
    return Audio(np.zeros((2, round(seconds * RATE)), np.float32), RATE)


def white_noise(seconds: float = 12.0) -> Audio:
    """A stereo track of white noise."""
    noise = np.random.default_rng(3).standard_normal((2, round(seconds * RATE)))
    return Audio((0.1 * noise).astype(np.float32), RATE)


def click_track(seconds: float = 12.0, bpm: float = 120) -> Audio:
    """A woodblock-like click on every beat and nothing else."""
    rng = np.random.default_rng(4)
    mix = np.zeros(round(seconds * RATE))
    t = np.arange(round(0.03 * RATE)) / RATE
    click = rng.standard_normal(t.size) * np.exp(-t * 250)
    for start in np.arange(0.25, seconds - 0.1, 60 / bpm):
        add(mix, click, float(start), 0.5)
    return Audio(mix.astype(np.float32)[None], RATE)
