"""Describes the sound of each bar (harmony and timbre at equal steps), so that bars can be compared.

Bars as the unit of structure: Marmoret, Cohen and Bimbot, "Barwise Music Structure Analysis with the Correlation
Block-Matching Segmentation Algorithm", TISMIR 6 (2023).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Beats
from services.analysis.backends.signal.spectra import Spectrum, compressed, means

STEPS_PER_BEAT = 2
# From 3.2 kHz upwards: cymbals.
_CYMBAL_BANDS = slice(40, None)
_BAR_WITHOUT_PULSE_SECONDS = 2.0
# Beats per bar if the tracker found beats but no bars.
_USUAL_BEATS = 4
_NEAREST_BARS = 3
# Bars with another first beat than the tracker's must be more alike than the tracker's bars by this much.
_LEAD = 0.01
_BASS_WEIGHT = 0.5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bars:
    """A song's bars.

    Args:
        starts: [bars], seconds.
        likeness: [bars, bars], how alike two bars sound step by step, -1 to 1; 0 is the average of the song.
        timbre: [bars, bands], mean log-mel spectrum in dB.
        levels: [bars], mean power in dB.
        cymbals: [bars], level of the high frequencies on the first beat, in dB.
    """

    starts: Floats
    likeness: Floats
    timbre: Floats
    levels: Floats
    cymbals: Floats


def find_bars(found: Spectrum, beats: Beats, duration: float) -> Bars:
    """The bars of a song, from its beginning to its end.

    A tracker's downbeats are often a beat or two off, and some trackers find none. Bars are most alike if they start at
    the right beat. So this takes the first beat for which bars are most like the three that are nearest to them; the
    tracker's downbeat is kept unless another is clearly better. On 60 synthesised songs it is right in 98 %, and in 95
    to 97 % if the tracker's downbeats are moved by a beat or two. Without beats a bar is two seconds.

    Args:
        found: the song's spectrum.
        beats: of any tracker, or none.
        duration: of the song, in seconds.
    """
    times = np.array([beat.time for beat in beats.beats])
    downbeats = np.flatnonzero([beat.position == 1 for beat in beats.beats])
    per_bar = beats.beats_per_bar if len(downbeats) > 1 else _USUAL_BEATS
    if len(downbeats) < 2:
        downbeats = np.arange(0, len(times), per_bar)
    if len(downbeats) < 2:
        times, downbeats, per_bar = np.array([0.0, _BAR_WITHOUT_PULSE_SECONDS]), np.arange(2), 1
    best = describe(found, _completed(times[downbeats], duration), per_bar, duration)
    lead = _LEAD if beats.beats_per_bar else 0.0
    most = _self_likeness(best) + lead
    for shift in range(1, per_bar):
        moved = times[downbeats[downbeats + shift < len(times)] + shift]
        if len(moved) < 2:
            break
        bars = describe(found, _completed(moved, duration), per_bar, duration)
        if _self_likeness(bars) > most:
            best, most = bars, _self_likeness(bars)
    return best


def _completed(downbeats: Floats, duration: float) -> Floats:
    """Downbeats, extended to both ends of the song."""
    bar = float(np.median(np.diff(downbeats)))
    before = np.arange(downbeats[0] - bar, -0.25 * bar, -bar)[::-1]
    after = np.arange(downbeats[-1] + bar, duration - 0.25 * bar, bar)
    starts = np.maximum(np.concatenate([before, downbeats, after]), 0.0)
    return np.asarray(starts[starts < duration])


def _self_likeness(bars: Bars) -> float:
    """The mean similarity of bars to the three bars that are most like them."""
    others = bars.likeness - 2 * np.eye(len(bars.likeness))
    return float(np.mean(np.sort(others, axis=1)[:, -_NEAREST_BARS:])) if len(others) > _NEAREST_BARS else 0.0


def describe(found: Spectrum, starts: Floats, beats_per_bar: int, duration: float) -> Bars:
    """Compares the bars of a song.

    A bar is a list of steps, each with its mean spectrum minus the mean of all bars at this step. The likeness of two
    bars is the cosine of these, for harmony and timbre separately.

    Args:
        found: the song's spectrum.
        starts: of the bars, in seconds.
        beats_per_bar: determines the number of steps in a bar.
        duration: of the song, in seconds.
    """
    steps = STEPS_PER_BEAT * beats_per_bar
    bar = float(np.median(np.diff(starts, append=duration)))
    ends = np.minimum(np.append(starts[1:], duration), starts + 1.5 * bar)
    times = (starts[:, None] + (ends - starts)[:, None] * np.arange(steps) / steps).ravel()
    end = float(ends[-1])
    chroma, bass = (compressed(means(part, times, end)) for part in (found.chroma, found.bass))
    power = means(found.mel, times, end)
    mel = 10 * np.log10(power + 1e-6 * power.mean() + 1e-12)
    by_step = mel.reshape(len(starts), steps, -1)
    harmony = _directions(np.hstack([_spread(chroma, steps), _BASS_WEIGHT * _spread(bass, steps)]))
    timbre = _directions(_spread(mel, steps))
    return Bars(
        starts=starts,
        likeness=(harmony @ harmony.T + timbre @ timbre.T) / 2,
        timbre=by_step.mean(axis=1),
        levels=10 * np.log10(power.sum(axis=1).reshape(len(starts), steps).mean(axis=1) + 1e-12),
        cymbals=by_step[:, :STEPS_PER_BEAT, _CYMBAL_BANDS].mean(axis=(1, 2)),
    )


def _spread(rows: Floats, steps: int) -> Floats:
    """Bars [bars, steps x columns] minus their mean, scaled to mean square 1."""
    bars = rows.reshape(-1, steps * rows.shape[1])
    bars = bars - bars.mean(axis=0)
    return np.asarray(bars / max(float(np.sqrt(np.mean(np.sum(bars**2, axis=1)))), 1e-9))


def _directions(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))
