"""Beats and tempo from onsets, with librosa: the backend `librosa`, also used by structure if there are no beats.

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
# Bass and bass drum show the beat better than other instruments: adding them with half their weight raises F on 79
# synthesised songs from 0.72 to 0.76.
_BASS_HZ = 150.0
_BASS_WEIGHT = 0.5
_MEL_BANDS = 128
# librosa's tempo is often half, double or two thirds of the beat's, so beats are tracked at all of these tempi, each
# with a cost. Thirds are rarer: with a cost of 0.5 to 1, synthesised songs give the same results as without, and a
# voice alone keeps its tempo; with 2 Acc1 falls to 0.83.
LEVELS = {1 / 2: 0.0, 2 / 3: 1.0, 1.0: 0.0, 3 / 2: 1.0, 2.0: 0.0}
# Weights of features for choosing the tempo: strength of onsets on beats and between them, difference in the bass
# between odd and even beats (large if they are the quavers of a slow song), and distance from a usual tempo, which is
# high, because strong onsets favour slow tempi. They are from a conditional logistic regression over 158 songs (the
# songs of an earlier generator, also with other tempi and seeds): F 0.81 and Acc1 0.83; at librosa's tempo 0.76 and
# 0.65, with librosa itself 0.69 and 0.65. Of several equally good sets of features, this one is best on the reference
# songs (Acc1 0.83 like librosa, F 0.71 against 0.62).
ON_BEAT, BETWEEN, ALTERNATION, OCTAVES_OFF = 3.5, 0.35, 0.15, 1.85
USUAL_BPM = 183.0

Onsets = npt.NDArray[np.float32]
Frames = npt.NDArray[np.int64]


class LibrosaBeats:
    """Needs only librosa's compiled functions; `confidence` is the periodicity of the onsets at the beat."""

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
        candidates = [
            (self._tracked(accents, tempo * level), price)
            for level, price in LEVELS.items()
            if SLOWEST_BPM <= tempo * level <= FASTEST_BPM
        ]
        frames = best_level([tracked for tracked in candidates if len(tracked[0]) >= _FEWEST_BEATS], accents, bass)
        progress(1.0)
        return _beats(frames, onsets)

    def _tracked(self, accents: Onsets, bpm: float) -> Frames:
        _, frames = self._librosa.beat.beat_track(
            onset_envelope=accents, sr=SAMPLE_RATE_HZ, hop_length=HOP, bpm=bpm, trim=True
        )
        return np.asarray(frames, np.int64)


def best_level(candidates: Sequence[tuple[Frames, float]], accents: Onsets, bass: Onsets) -> Frames:
    """Chooses among beats tracked at several tempi; empty if there are none.

    Args:
        candidates: frames of beats, at least three, and the cost of each candidate.
        accents: strength of onsets [frames].
        bass: strength of onsets in the bass [frames].
    """
    levels, lows = _standardised(accents), _standardised(bass)

    def worth(candidate: tuple[Frames, float]) -> float:
        frames, price = candidate
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

    return max(candidates, key=worth, default=(np.zeros(0, np.int64), 0.0))[0]


def _strength(onsets: Onsets, frames: Frames) -> float:
    """Mean strength of the onsets near frames."""
    near = np.clip(frames[:, None] + np.arange(-1, 2), 0, len(onsets) - 1)
    return float(onsets[near].max(axis=1).mean())


def _standardised(onsets: Onsets) -> Onsets:
    return _even(onsets - onsets.mean())


def _even(onsets: Onsets) -> Onsets:
    """Onset strengths with variance 1, so that bands can be added."""
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

    Windows are weighted by their variance, so that pauses do not count. They are short enough for a drifting tempo.
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
