"""Finds the likeliest sequence of chords or keys when a change has a cost that depends on the time."""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Beats

Floats = npt.NDArray[np.floating]


def likeliest(scores: Floats, prices: Floats) -> npt.NDArray[np.intp]:
    """The state of each frame, by a Viterbi search in which all changes at a frame cost the same.

    Args:
        scores: log-probabilities [frames, states].
        prices: cost of a change between the last frame and this one [frames].
    """
    count, chords = scores.shape
    same = np.arange(chords)
    before = np.empty((count, chords), np.intp)
    best = scores[0].astype(np.float64)
    for i in range(1, count):
        leader = int(best.argmax())
        changed = best[leader] - prices[i]
        before[i] = np.where(best >= changed, same, leader)
        best = np.maximum(best, changed) + scores[i]
    found = np.empty(count, np.intp)
    found[-1] = best.argmax()
    for i in range(count - 1, 0, -1):
        found[i - 1] = before[i, found[i]]
    return found


def prices_of_changes(
    frames: int, seconds_per_frame: float, beats: Beats, on_downbeat: float, on_beat: float, elsewhere: float
) -> npt.NDArray[np.float64]:
    """The cost of a change of chord in each frame: chords change on beats, mostly on downbeats.

    Args:
        frames: number of frames.
        seconds_per_frame: frame i begins at i times this.
        beats: of the track.
        on_downbeat: cost within one frame of a downbeat.
        on_beat: cost within one frame of another beat, or of any beat if the bars are unknown.
        elsewhere: cost off the beats.
    """
    prices = np.full(frames, elsewhere)
    for times, price in (
        ([beat.time for beat in beats.beats], on_beat),
        ([beat.time for beat in beats.beats if beat.position == 1], on_downbeat),
    ):
        nearest = np.round(np.array(times) / seconds_per_frame).astype(int)
        near = (nearest[:, None] + np.arange(-1, 2)).ravel()
        prices[near[(near >= 0) & (near < frames)]] = price
    return prices
