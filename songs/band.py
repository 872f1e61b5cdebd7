"""Instruments of the songs: drums, bass, electric piano, guitar, strings and organ, synthesised with NumPy.

Every function returns one sound as float64 [samples] at 44.1 kHz, with a peak of about -6 dBFS. Pitches are MIDI
numbers, which need not be whole. Notes are cached, so a song costs little more than its distinct notes.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, oaconvolve, sosfilt

Signal = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 44_100
NOTES_KEPT = 256  # of each instrument
_NOISE_SEED = 112


def hertz(pitch: float) -> float:
    """The frequency of a MIDI pitch, equal temperament, A4 = 440 Hz."""
    return float(440.0 * 2.0 ** ((pitch - 69.0) / 12.0))


def time_axis(seconds: float) -> Signal:
    """Times of the samples of a sound."""
    return np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def noise(seconds: float, seed: int) -> Signal:
    """White noise, the same for the same seed."""
    return np.random.default_rng(_NOISE_SEED + seed).standard_normal(round(seconds * SAMPLE_RATE_HZ))


def edges(sound: Signal, attack: float, release: float) -> Signal:
    """Fades the first `attack` and the last `release` seconds to avoid clicks."""
    sound = sound.copy()
    rise = min(len(sound), max(1, round(attack * SAMPLE_RATE_HZ)))
    fall = min(len(sound), max(1, round(release * SAMPLE_RATE_HZ)))
    sound[:rise] *= np.linspace(0.0, 1.0, rise)
    sound[-fall:] *= np.linspace(1.0, 0.0, fall)
    return sound


def bandpass(sound: Signal, low: float, high: float) -> Signal:
    """Keeps what lies between two frequencies."""
    return np.asarray(sosfilt(butter(2, (low, high), btype="bandpass", fs=SAMPLE_RATE_HZ, output="sos"), sound))


def peak(sound: Signal) -> Signal:
    """Sets the peak to -6 dBFS, and makes the sound read-only."""
    sound = sound * (0.5 / np.abs(sound).max())
    sound.setflags(write=False)
    return sound


@lru_cache
def kick() -> Signal:
    """A bass drum: a sine that falls from 150 to 50 Hz, and the click of the beater."""
    time = time_axis(0.32)
    pitch = 50.0 + 100.0 * np.exp(-time / 0.03)
    body = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ) * np.exp(-time / 0.11)
    click = bandpass(noise(0.32, 1), 1500.0, 6000.0) * np.exp(-time / 0.004)
    return peak(edges(body + 0.5 * click, 0.001, 0.05))


@lru_cache
def snare() -> Signal:
    """A snare drum: two modes of the skin and the rattle of the wires."""
    time = time_axis(0.30)
    skin = (np.sin(2 * np.pi * 185.0 * time) + 0.6 * np.sin(2 * np.pi * 330.0 * time)) * np.exp(-time / 0.06)
    wires = bandpass(noise(0.30, 2), 1200.0, 9500.0) * np.exp(-time / 0.09)
    return peak(edges(skin + 1.1 * wires, 0.001, 0.05))


@lru_cache
def rim() -> Signal:
    """A stick across the rim of the snare."""
    time = time_axis(0.08)
    tone = (np.sin(2 * np.pi * 1700.0 * time) + 0.7 * np.sin(2 * np.pi * 620.0 * time)) * np.exp(-time / 0.012)
    return peak(edges(tone + 0.3 * bandpass(noise(0.08, 3), 2000.0, 8000.0) * np.exp(-time / 0.008), 0.0005, 0.01))


@lru_cache
def hat(seconds: float = 0.06) -> Signal:
    """A hi-hat; `seconds` is its decay time: 0.03 closed, 0.2 open."""
    time = time_axis(5 * seconds)
    metal = sum(np.sign(np.sin(2 * np.pi * hz * time)) for hz in (3217.0, 4109.0, 5413.0, 6211.0, 7541.0, 8693.0))
    sound = bandpass(0.4 * metal + noise(5 * seconds, 4)[: len(time)], 6500.0, 15000.0)
    return peak(edges(sound * np.exp(-time / seconds), 0.0005, 0.02))


@lru_cache
def crash() -> Signal:
    """A crash cymbal."""
    time = time_axis(1.8)
    sound = bandpass(noise(1.8, 5), 2500.0, 14000.0) * np.exp(-time / 0.5)
    return peak(edges(sound, 0.002, 0.2))


def partials(pitch: float, seconds: float, levels: Signal, decays: Signal, stretch: float = 0.0) -> Signal:
    """Sum of decaying harmonics of `pitch`; `stretch` is the inharmonicity of a stiff string."""
    samples = round(seconds * SAMPLE_RATE_HZ)
    fundamental = hertz(pitch)
    out = np.zeros(samples)
    for number, (level, decay) in enumerate(zip(levels, decays, strict=True), start=1):
        frequency = fundamental * number * np.sqrt(1.0 + stretch * number**2)
        if frequency > 12_000.0:
            break
        out += level * _decaying_sine(frequency, decay, samples)
    return out


def _decaying_sine(frequency: float, decay: float, samples: int) -> Signal:
    # Powers of one complex number, as a product of two short tables, which needs no sine or exponential per sample.
    step = np.exp((2j * np.pi * frequency - 1.0 / decay) / SAMPLE_RATE_HZ)
    block = 512
    inner = step ** np.arange(block)
    outer = (step**block) ** np.arange(-(-samples // block))
    return np.asarray(np.imag(outer[:, None] * inner[None, :]).reshape(-1)[:samples])


@lru_cache(maxsize=NOTES_KEPT)
def bass(pitch: float, seconds: float) -> Signal:
    """A fingered electric bass."""
    number = np.arange(1.0, 13.0)
    sound = partials(pitch, seconds, 1.0 / number**1.4, 1.6 / number**0.9)
    return peak(edges(sound, 0.006, 0.04))


@lru_cache(maxsize=NOTES_KEPT)
def piano(pitch: float, seconds: float) -> Signal:
    """An electric piano: a bar with a strong fundamental and a short bell-like attack."""
    levels = np.array([1.0, 0.35, 0.16, 0.10, 0.03, 0.02, 0.06])
    decays = np.array([1.3, 0.9, 0.55, 0.40, 0.20, 0.15, 0.09])
    return peak(edges(partials(pitch, seconds, levels, decays), 0.004, 0.08))


@lru_cache(maxsize=NOTES_KEPT)
def guitar(pitch: float, seconds: float) -> Signal:
    """A plucked steel string, plucked at a fifth of its length."""
    number = np.arange(1.0, 25.0)
    levels = np.abs(np.sin(np.pi * number / 5.0)) / number
    return peak(edges(partials(pitch, seconds, levels, 1.2 / number**0.75, stretch=4e-5), 0.002, 0.05))


@lru_cache(maxsize=NOTES_KEPT)
def strings(pitch: float, seconds: float) -> Signal:
    """A string section: detuned, slowly rising, softly filtered saws."""
    number = np.arange(1.0, 17.0)
    levels = 1.0 / number / (1.0 + (hertz(pitch) * number / 1800.0) ** 2)
    forever = np.full(len(number), 1e3)
    sound = np.sum([partials(pitch + cents / 100.0, seconds, levels, forever) for cents in (-8.0, 1.0, 9.0)], axis=0)
    return peak(edges(sound, 0.12, 0.15))


@lru_cache(maxsize=NOTES_KEPT)
def organ(pitch: float, seconds: float) -> Signal:
    """An electric organ: steady partials, and the click of its key."""
    levels = np.array([1.0, 0.8, 0.6, 0.5, 0.0, 0.3, 0.0, 0.35])
    return peak(edges(partials(pitch, seconds, levels, np.full(8, 1e3)), 0.006, 0.03))


def room(dry: Signal, amount: float, seconds: float, seed: int) -> Signal:
    """Adds a room: `dry` [2, samples], `amount` of decaying noise, -60 dB after `seconds`; as long as `dry`."""
    length = round(seconds * SAMPLE_RATE_HZ)
    decay = np.exp(-6.9 * np.arange(length) / length)
    wet = []
    for channel in range(2):
        tail = bandpass(noise(seconds, seed + channel), 200.0, 7000.0) * decay
        tail[: round(0.012 * SAMPLE_RATE_HZ)] = 0.0
        tail /= np.sqrt((tail**2).sum())
        wet.append(oaconvolve(dry.mean(axis=0), tail)[: dry.shape[1]])
    return np.asarray(dry + amount * np.stack(wet))
