"""Beats and tempo from onsets, with librosa. The beats' `librosa` backend, and structure where there are no beats.

Ellis, "Beat Tracking by Dynamic Programming", Journal of New Music Research 36 (2007).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Beat, Beats, Context, Progress
from services.analysis.backends.signal.features import has_sound, mono
from services.analysis.backends.signal.tempo import FASTEST_BPM, SLOWEST_BPM, curve_of, in_range, tempo_of
from services.common.samples import Audio

SAMPLE_RATE_HZ = 22_050
HOP = 512
NO_BEATS = Beats(beats=(), bpm=0.0, confidence=0.0, beats_per_bar=0)

# Periodicity of the onsets at the beat: songs 0.40-0.92, clicks 0.71, a chorale 0.15; white and pink noise 0.06-0.09.
_LEAST_PERIODICITY = 0.12
_FEWEST_BEATS = 3
_WINDOW_SECONDS = 8.0
# Bass and bass drum say more of the beat than what plays off it: with half their weight added, F of 79 synthesised
# songs is 0.76 rather than 0.72.
_BASS_HZ = 150.0
_BASS_WEIGHT = 0.5
_MEL_BANDS = 128
# librosa's tempo is often a half or a double of the beat's, or two thirds of it: beats are tracked at all of these.
# Thirds have a price, as they are rarer: with 0.5 to 1 made songs come out as without it, and a voice alone keeps its
# tempo; with 2 Acc1 falls to 0.83.
LEVELS = {1 / 2: 0.0, 2 / 3: 1.0, 1.0: 0.0, 3 / 2: 1.0, 2.0: 0.0}
# Features for the level: how strong onsets are on the beats and between them, how much every second beat differs in the
# bass (a slow song's quavers do), and the tempo; strong onsets favour slow levels, so the usual tempo is high.
# Weights of a conditional logistic regression over 158 songs (the recipes of `songs.beat_songs`, with other tempi
# and seeds, too): F 0.81 and Acc1 0.83, at librosa's tempo 0.76 and 0.65, by librosa itself 0.69 and 0.65. Of several
# sets of features that do as well there, the reference songs chose (Acc1 0.83 as by librosa, F 0.71 against 0.62).
ON_BEAT, BETWEEN, ALTERNATION, OCTAVES_OFF = 3.5, 0.35, 0.15, 1.85
USUAL_BPM = 183.0

Onsets = npt.NDArray[np.float32]
Frames = npt.NDArray[np.int64]


class LibrosaBeats:
    """Nothing to load but librosa's compiled functions; `confidence` is the periodicity of the onsets at the beat."""

    def __init__(self) -> None:
        import librosa

        self._librosa = librosa

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Beats:
        """See `services.analysis.backends.base.Backend`."""
        if not has_sound(audio):
            progress(1.0)
            return NO_BEATS
        mix = mono(audio, SAMPLE_RATE_HZ)
        power = self._librosa.feature.melspectrogram(y=mix, sr=SAMPLE_RATE_HZ, hop_length=HOP, n_mels=_MEL_BANDS)
        levels = self._librosa.power_to_db(power)
        onsets = self._librosa.onset.onset_strength(S=levels, sr=SAMPLE_RATE_HZ, hop_length=HOP)
        bands = self._librosa.mel_frequencies(_MEL_BANDS, fmax=SAMPLE_RATE_HZ / 2)
        bass = self._librosa.onset.onset_strength(S=levels[bands < _BASS_HZ], sr=SAMPLE_RATE_HZ, hop_length=HOP)
        progress(0.6)
        if not onsets.any():
            progress(1.0)
            return NO_BEATS
        found = self._librosa.feature.tempo(onset_envelope=onsets, sr=SAMPLE_RATE_HZ, hop_length=HOP)
        tempo = in_range(float(found[0]))
        progress(0.8)
        accents = _even(onsets) + _BASS_WEIGHT * _even(bass)
        ways = [
            (self._tracked(accents, tempo * level), price)
            for level, price in LEVELS.items()
            if SLOWEST_BPM <= tempo * level <= FASTEST_BPM
        ]
        frames = best_level([way for way in ways if len(way[0]) >= _FEWEST_BEATS], accents, bass)
        progress(1.0)
        return _beats(frames, onsets)

    def _tracked(self, accents: Onsets, bpm: float) -> Frames:
        _, frames = self._librosa.beat.beat_track(
            onset_envelope=accents, sr=SAMPLE_RATE_HZ, hop_length=HOP, bpm=bpm, trim=True
        )
        return np.asarray(frames, np.int64)


def best_level(ways: Sequence[tuple[Frames, float]], accents: Onsets, bass: Onsets) -> Frames:
    """Chooses among beats tracked at several tempi; empty if there are none.

    Args:
        ways: frames of beats, at least three each, and what each way has against it.
        accents: strength of onsets [frames].
        bass: of those in the bass [frames].
    """
    levels, lows = _standardised(accents), _standardised(bass)

    def worth(way: tuple[Frames, float]) -> float:
        frames, price = way
        middles = np.round((frames[1:] + frames[:-1]) / 2).astype(np.int64)
        alternation = abs(_strength(lows, frames[::2]) - _strength(lows, frames[1::2]))
        octaves = float(np.log2(tempo_of(frames * HOP / SAMPLE_RATE_HZ) / USUAL_BPM))
        return (
            ON_BEAT * _strength(levels, frames)
            + BETWEEN * _strength(levels, middles)
            + ALTERNATION * alternation
            - OCTAVES_OFF * octaves**2
            - price
        )

    return max(ways, key=worth, default=(np.zeros(0, np.int64), 0.0))[0]


def _strength(onsets: Onsets, frames: Frames) -> float:
    """Mean strength of the onsets near frames."""
    near = np.clip(frames[:, None] + np.arange(-1, 2), 0, len(onsets) - 1)
    return float(onsets[near].max(axis=1).mean())


def _standardised(onsets: Onsets) -> Onsets:
    return _even(onsets - onsets.mean())


def _even(onsets: Onsets) -> Onsets:
    """Onset strengths of variance 1, so that bands can be added up."""
    return np.asarray(onsets / max(float(onsets.std()), 1e-9), np.float32)


def _beats(frames: Frames, onsets: Onsets) -> Beats:
    if len(frames) < _FEWEST_BEATS:
        return NO_BEATS
    confidence = periodicity(onsets, round(float(np.median(np.diff(frames)))))
    if confidence < _LEAST_PERIODICITY:
        return NO_BEATS
    times = frames * HOP / SAMPLE_RATE_HZ
    return Beats(
        beats=tuple(Beat(time=float(t), position=0) for t in times),
        bpm=tempo_of(times),
        confidence=confidence,
        beats_per_bar=0,
        curve=curve_of(times),
    )


def periodicity(onsets: Onsets, lag: int) -> float:
    """The autocorrelation of the onset strength at `lag` frames, in windows of 8 s, in [0, 1].

    Windows weigh by their variance, so that pauses do not count; a window is short enough for a tempo that drifts.
    """
    size = min(len(onsets), round(_WINDOW_SECONDS * SAMPLE_RATE_HZ / HOP))
    found = total = 0.0
    for start in range(0, len(onsets) - size + 1, max(1, size // 2)):
        window = onsets[start : start + size].astype(np.float64)
        window -= window.mean()
        total += float(window @ window)
        found += max(
            float(window[n:] @ window[:-n]) * size / (size - n) for n in (lag - 1, lag, lag + 1) if 0 < n < size
        )
    return float(np.clip(found / total, 0, 1)) if total > 0 else 0.0
