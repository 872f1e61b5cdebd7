"""A second synthesiser, of other methods than `songs.band`: plucked strings, a grand piano, bowed strings, an organ.

Sounds are as in `songs.band`: float64 [samples] at 44.1 kHz, a peak of about -6 dBFS; pitches are MIDI numbers, which
need not be whole.
"""

from functools import lru_cache

import numpy as np

from songs.band import NOTES_KEPT, SAMPLE_RATE_HZ, Signal, bandpass, edges, hertz, noise, partials, peak, time_axis

_MEMBRANE = (1.0, 1.594, 2.136, 2.296, 2.653)  # modes of a round membrane, from zeros of Bessel functions


def _plucked(pitch: float, seconds: float, ring: float, damping: float, softness: float) -> Signal:
    """A plucked string (Karplus and Strong, Computer Music Journal 7, 1983).

    Args:
        pitch: MIDI number.
        seconds: of the sound.
        ring: seconds in which the fundamental falls by 60 dB.
        damping: of high partials, 0 to 0.5 per period.
        softness: samples over which the pluck is smoothed.
    """
    period = SAMPLE_RATE_HZ / hertz(pitch)
    whole = int(period - 1.0)
    part = period - 1.0 - whole
    # The fractional delay and the loss of each period are one filter with four taps.
    taps = np.convolve([1.0 - part, part], [damping / 2, 1.0 - damping, damping / 2]) * 10.0 ** (
        -3.0 * period / SAMPLE_RATE_HZ / ring
    )
    samples = round(seconds * SAMPLE_RATE_HZ)
    reach = whole + len(taps) - 1
    sound = np.zeros(reach + samples + whole)
    pluck = noise(whole / SAMPLE_RATE_HZ, round(pitch))[:whole]
    pluck = np.convolve(pluck, np.hanning(2 * round(softness) + 3)[1:-1], mode="same")
    sound[reach : reach + len(pluck)] = pluck - pluck.mean()
    for start in range(reach + whole, reach + samples, whole):
        before = sound[start - reach : start]
        sound[start : start + whole] = np.convolve(before, taps, mode="valid")
    return sound[reach : reach + samples]


@lru_cache(maxsize=NOTES_KEPT)
def guitar(pitch: float, seconds: float) -> Signal:
    """A nylon-string guitar."""
    return peak(edges(_plucked(pitch, seconds, 3.0, 0.12, 6.0), 0.001, 0.06))


@lru_cache(maxsize=NOTES_KEPT)
def bass(pitch: float, seconds: float) -> Signal:
    """A double bass, plucked."""
    return peak(edges(_plucked(pitch, seconds, 2.2, 0.3, 30.0), 0.004, 0.06))


@lru_cache(maxsize=NOTES_KEPT)
def piano(pitch: float, seconds: float) -> Signal:
    """A grand piano: two strings a little out of tune, stiff, and the knock of the hammer."""
    number = np.arange(1.0, 21.0)
    levels = number**-0.9 / (1.0 + (hertz(pitch) * number / 2200.0) ** 2) * np.abs(np.sin(np.pi * number / 8.0))
    decays = (4.0 * 2.0 ** ((48.0 - pitch) / 18.0)) / number**0.6
    strings_ = [partials(pitch + cents / 100.0, seconds, levels, decays, stretch=3e-4) for cents in (-0.7, 0.8)]
    knock = bandpass(noise(seconds, 41), 120.0, 2500.0) * np.exp(-time_axis(seconds) / 0.012)
    sound = np.sum(strings_, axis=0)
    return peak(edges(sound / np.abs(sound).max() + 0.06 * knock[: len(sound)], 0.002, 0.12))


@lru_cache(maxsize=NOTES_KEPT)
def strings(pitch: float, seconds: float) -> Signal:
    """Bowed strings with vibrato; all partials at once by Moorer's sum (Journal of the AES 24, 1976)."""
    time = time_axis(seconds)
    vibrato = 0.18 * np.clip((time - 0.15) / 0.3, 0.0, 1.0) * np.sin(2 * np.pi * 5.6 * time + pitch)
    phase = 2 * np.pi * np.cumsum(hertz(pitch) * 2.0 ** (vibrato / 12.0)) / SAMPLE_RATE_HZ
    ratio = float(np.exp(-5.0 / min(30.0, 7000.0 / hertz(pitch))))
    tone = np.sin(phase) / (1.0 + ratio**2 - 2.0 * ratio * np.cos(phase))
    bow = 0.03 * bandpass(noise(seconds, 43), 1500.0, 6000.0)[: len(tone)]
    return peak(edges(tone / np.abs(tone).max() + bow, 0.06, 0.12))


@lru_cache(maxsize=NOTES_KEPT)
def organ(pitch: float, seconds: float) -> Signal:
    """An organ: pipes of the fundamental, its octaves and its fifths, and their first breath."""
    levels = np.zeros(16)
    levels[[0, 1, 2, 3, 5, 7, 15]] = (1.0, 0.7, 0.25, 0.45, 0.15, 0.2, 0.06)
    sound = partials(pitch, seconds, levels, np.full(16, 1e3))
    breath = bandpass(noise(seconds, 45), 800.0, 5000.0)[: len(sound)] * np.exp(-time_axis(seconds) / 0.03)
    return peak(edges(sound / np.abs(sound).max() + 0.05 * breath, 0.018, 0.05))


def _membrane(hz: float, seconds: float, decay: float, fall: float) -> Signal:
    """Modes of a membrane that is struck: its pitch begins `fall` higher, as a fraction, and falls."""
    time = time_axis(seconds)
    phase = 2 * np.pi * np.cumsum(hz * (1.0 + fall * np.exp(-time / 0.025))) / SAMPLE_RATE_HZ
    modes = [
        np.sin(ratio * phase) * np.exp(-time * ratio / decay) / (1 + index) for index, ratio in enumerate(_MEMBRANE)
    ]
    return np.asarray(np.sum(modes, axis=0))


@lru_cache
def kick() -> Signal:
    """A bass drum with a felt beater."""
    knock = bandpass(noise(0.4, 51), 300.0, 2500.0) * np.exp(-time_axis(0.4) / 0.008)
    return peak(edges(_membrane(58.0, 0.4, 0.16, 0.8) + 0.25 * knock, 0.001, 0.05))


@lru_cache
def snare() -> Signal:
    """A snare drum with loose wires."""
    wires = bandpass(noise(0.4, 52), 800.0, 7000.0) * np.exp(-time_axis(0.4) / 0.11)
    return peak(edges(_membrane(196.0, 0.4, 0.09, 0.15) + 0.8 * wires, 0.001, 0.05))


@lru_cache
def rim() -> Signal:
    """A wood block."""
    time = time_axis(0.1)
    tone = np.sin(2 * np.pi * 1150.0 * time) + 0.5 * np.sin(2 * np.pi * 2840.0 * time)
    return peak(edges(tone * np.exp(-time / 0.018), 0.0005, 0.01))


def _metal(seconds: float, decay: float, low: float, seed: int) -> Signal:
    """A cymbal: many partials without a common fundamental, and noise."""
    time = time_axis(seconds)
    rng = np.random.default_rng(seed)
    tones = np.sum(
        [np.sin(2 * np.pi * hz * time + hz) for hz in np.exp(rng.uniform(np.log(low / 4), np.log(14e3), 24))], axis=0
    )
    return bandpass(0.25 * tones + noise(seconds, seed)[: len(time)], low, 15_000.0) * np.exp(-time / decay)


@lru_cache
def hat() -> Signal:
    """A closed hi-hat."""
    return peak(edges(_metal(0.2, 0.035, 6000.0, 61), 0.0005, 0.02))


@lru_cache
def open_hat() -> Signal:
    """An open hi-hat."""
    return peak(edges(_metal(0.7, 0.22, 5000.0, 62), 0.0005, 0.05))


@lru_cache
def ride() -> Signal:
    """A ride cymbal: the tip of the stick, then a long wash."""
    tip = np.pad(_metal(0.1, 0.015, 3000.0, 64), (0, len(time_axis(1.2)) - len(time_axis(0.1))))
    return peak(edges(0.35 * _metal(1.2, 0.45, 2500.0, 63) + tip, 0.0005, 0.1))


@lru_cache
def crash() -> Signal:
    """A crash cymbal."""
    return peak(edges(_metal(2.2, 0.7, 1800.0, 65), 0.002, 0.2))
