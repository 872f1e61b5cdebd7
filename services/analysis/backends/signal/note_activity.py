"""Estimates the strength of each note over time by explaining the spectrum as a sum of notes with overtones.

After Mauch and Dixon, "Approximate Note Transcription for the Improved Identification of Difficult Chords", ISMIR 2010.
Unlike plain chroma, it does not count overtones as notes, which would confuse a key with the one a fifth above.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Progress, Tuning
from services.analysis.backends.signal.features import mono
from services.analysis.backends.signal.tuning import tuning_of
from services.common.samples import Audio

SAMPLE_RATE_HZ = 11_025
FRAME, HOP = 8192, 2048
SECONDS_PER_FRAME = HOP / SAMPLE_RATE_HZ
LOWEST_PITCH = 33  # A1; below it a frame of 0.74 s does not resolve semitones
PITCHES = 72
BINS_PER_SEMITONE = 3
# Strength of each overtone relative to the one below it. Of values from 0.4 to 0.7, the Krumhansl profiles found most
# keys with this one (chorales 0.90, synthesised songs 0.84); with larger ones thirds count as overtones of their roots.
OVERTONE_DECAY = 0.6
OVERTONES = 12
ITERATIONS = 30
_FRAMES_AT_ONCE = 128

Floats = npt.NDArray[np.float32]


def note_activity(audio: Audio, progress: Progress) -> Floats:
    """Strength of each semitone from `LOWEST_PITCH` upwards, in the song's tuning: float32 [frames, PITCHES].

    Frames are `SECONDS_PER_FRAME` apart; the middle of the first one is the track's start.

    Args:
        audio: the track.
        progress: called with the fraction done; may raise to stop.
    """
    spectrum = _semitone_spectrum(mono(audio, SAMPLE_RATE_HZ), progress)
    spectrum = _above_background(_in_tune(spectrum, tuning_of(audio)))
    notes = _note_spectra()
    # Non-negative least squares by multiplicative updates (Lee and Seung 2001).
    wanted, mixing = spectrum @ notes.T + 1e-9, notes @ notes.T
    activity = wanted.copy()
    for _ in range(ITERATIONS):
        activity *= wanted / (activity @ mixing + 1e-9)
    return activity


def chroma(
    activity: Floats, lowest: int = LOWEST_PITCH, highest: int = LOWEST_PITCH + PITCHES
) -> npt.NDArray[np.float64]:
    """Strength of each pitch class from C upwards, of the notes from `lowest` up to `highest` (MIDI): [frames, 12].

    It sums the square roots of strengths, so that the loudest note does not dominate.
    """
    classes = np.zeros((len(activity), 12))
    for pitch in range(lowest, highest):
        classes[:, pitch % 12] += np.sqrt(activity[:, pitch - LOWEST_PITCH])
    return classes


def _semitone_spectrum(mix: Floats, progress: Progress) -> Floats:
    """Magnitudes in `BINS_PER_SEMITONE` bins for each pitch; the middle one is in tune: [frames, bins]."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(mix, FRAME // 2), FRAME)[::HOP]
    window, filters = np.hanning(FRAME).astype(np.float32), _filters()
    spectrum = np.empty((len(frames), filters.shape[1]), np.float32)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        block = slice(start, start + _FRAMES_AT_ONCE)
        spectrum[block] = np.abs(np.fft.rfft(frames[block] * window)).astype(np.float32) @ filters
        progress(min(1.0, (start + _FRAMES_AT_ONCE) / len(frames)))
    return spectrum


def _filters() -> Floats:
    """Raised cosines as wide as a bin, or as the Fourier transform's resolution if that is coarser."""
    hz = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE_HZ)
    pitches = 12 * np.log2(np.maximum(hz, 1) / 440) + 69
    centres = LOWEST_PITCH + (np.arange(PITCHES * BINS_PER_SEMITONE) - 1) / BINS_PER_SEMITONE
    resolution = 12 * np.log2(1 + SAMPLE_RATE_HZ / FRAME / (440 * 2 ** ((centres - 69) / 12)))
    distance = np.abs(pitches[:, None] - centres) / np.maximum(1 / BINS_PER_SEMITONE, resolution)
    filters = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0)
    return np.asarray(filters / filters.sum(axis=0), np.float32)


def _in_tune(spectrum: Floats, tuning: Tuning) -> Floats:
    """Shifts the spectrum along the pitches so that notes in the song's tuning are in the middle bins."""
    bins = np.arange(spectrum.shape[1])
    cents = tuning.at(np.arange(len(spectrum)) * SECONDS_PER_FRAME)
    where = np.clip(bins + cents[:, None] / 100 * BINS_PER_SEMITONE, 0, bins[-1])
    below = np.minimum(where.astype(int), bins[-1] - 1)
    share = (where - below).astype(np.float32)
    lower, upper = (np.take_along_axis(spectrum, places, axis=1) for places in (below, below + 1))
    return np.asarray(lower * (1 - share) + upper * share)


def _above_background(spectrum: Floats) -> Floats:
    """Subtracts the mean of the octave around each bin, which keeps peaks and removes drums and noise."""
    half = 6 * BINS_PER_SEMITONE
    sums = np.cumsum(np.pad(spectrum, ((0, 0), (half + 1, half)), mode="edge"), axis=1)
    width = 2 * half + 1
    return np.maximum(0, spectrum - (sums[:, width:] - sums[:, :-width]) / width)


def _note_spectra() -> Floats:
    """The spectrum of each pitch with its overtones: [pitches, bins]."""
    bins = np.arange(PITCHES * BINS_PER_SEMITONE)
    numbers = np.arange(1, OVERTONES + 1)
    places = (np.arange(PITCHES)[:, None] + 12 * np.log2(numbers)) * BINS_PER_SEMITONE + 1
    shapes = np.maximum(0, 1 - np.abs(bins - places[..., None]) / (BINS_PER_SEMITONE / 2))
    return np.asarray((OVERTONE_DECAY ** (numbers - 1)) @ shapes, np.float32)
