"""Viterbi decoding of madmom's bar state space with little memory.

madmom's own decoder keeps a pointer for every state and frame: 0.65 GB for a song of two minutes, 10 GB for half an
hour. But within a beat there is only one path (Krebs, Böck and Widmer, "An Efficient State Space Model for Joint Tempo
and Meter Tracking", ISMIR 2015): a beat with tempo interval L is left L frames after it was entered. So it is enough to
store the entries into beats, one per beat of the bar and tempo; that is a fiftieth of the states.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

_LOG_ZERO = -150.0
_FRAMES_PER_REPORT = 2000


class BarDecoder:
    """Replaces one of the `hmms` of madmom's `DBNDownBeatTrackingProcessor`, with the same results.

    Args:
        hmm: madmom's `HiddenMarkovModel` of a bar (state space, transitions, observations).
        report: called with the fraction decoded; may raise to stop.
    """

    def __init__(self, hmm: Any, report: Callable[[float], None]) -> None:
        from madmom.features.beats_hmm import exponential_transition

        self.transition_model = hmm.transition_model
        self.observation_model = hmm.observation_model
        self._report = report
        space = self.transition_model.state_space
        self._beats: int = space.num_beats
        self._states: int = space.num_states
        self._first = np.stack(space.first_states)
        self._lengths = space.state_intervals[self._first[0]]
        rates = self.transition_model.transition_lambda
        with np.errstate(divide="ignore"):
            self._log_transitions = np.log(
                np.stack([exponential_transition(self._lengths, self._lengths, rate) for rate in rates])
            )
        # Number of frames from the start of a beat to which the density of (down)beats applies, not that of non-beats.
        pulse = np.add.reduceat(self.observation_model.pointers > 0, self._first.ravel()).reshape(self._first.shape)
        self._pulse_lengths: npt.NDArray[np.int64] = pulse[0]

    def viterbi(self, observations: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], float]:
        """The most probable path of states.

        Args:
            observations: probabilities [frames, 2] of beat and downbeat.

        Returns:
            The state of every frame, and the log probability of the path.
        """
        frames = len(observations)
        longest = int(self._lengths.max())
        sums = self._density_sums(observations, longest)
        # Log probability of entering each beat at each tempo, for the last `longest` frames. If the path begins within
        # a beat, that beat was entered before frame 0; frames before 0 have no weight.
        entries = np.full((longest, self._beats, self._lengths.size), -np.log(self._states))
        source = np.zeros((frames, self._beats, self._lengths.size), np.uint8)
        for first in range(0, frames, _FRAMES_PER_REPORT):
            self._report(first / frames)
            last = min(first + _FRAMES_PER_REPORT, frames)
            _advance(first, last, entries, source, sums, self._lengths, self._pulse_lengths, self._log_transitions)
        end, score = self._best_end(entries, sums, frames)
        return self._trace_back(source, end), score

    def _density_sums(self, observations: npt.NDArray[np.float32], longest: int) -> npt.NDArray[np.float64]:
        """Sums of log densities (non-beat, beat, downbeat) before each frame, preceded by `longest` frames of 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            densities = self.observation_model.log_densities(observations)
        densities = np.nan_to_num(densities, nan=_LOG_ZERO, neginf=_LOG_ZERO)
        padded = np.concatenate([np.zeros((longest + 1, 3)), densities])
        return np.asarray(np.cumsum(padded, axis=0))

    def _inside(
        self, sums: npt.NDArray[np.float64], entered: npt.NDArray[np.int64], spent: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Log density of being `spent` frames in beats entered at `entered`: [beats of the bar, tempi]."""
        turn = entered + np.minimum(self._pulse_lengths, spent)
        rest = sums[entered + spent, 0] - sums[turn, 0]
        pulse = sums[turn, 1:] - sums[entered, 1:]
        scores = np.repeat((rest + pulse[:, 0])[None], self._beats, axis=0)
        scores[0] = rest + pulse[:, 1]
        return scores

    def _best_end(
        self, entries: npt.NDArray[np.float64], sums: npt.NDArray[np.float64], frames: int
    ) -> tuple[tuple[int, int, int], float]:
        """The best path's state in the last frame (beat of the bar, tempo, frames since the beat), and its score."""
        longest = len(entries)
        spent = np.arange(1, longest + 1)[:, None]
        tempi = np.arange(self._lengths.size)[None]
        entered = frames - spent
        inside = [
            self._inside(sums, np.full_like(self._lengths, longest + frames - n), np.full_like(self._lengths, n))
            for n in spent[:, 0]
        ]
        scores = entries[entered % longest, :, tempi].transpose(0, 2, 1) + np.stack(inside)
        scores = np.where((self._lengths >= spent)[:, None], scores, -np.inf)
        n, beat, tempo = np.unravel_index(int(scores.argmax()), scores.shape)
        return (int(beat), int(tempo), int(spent[n, 0])), float(scores[n, beat, tempo])

    def _trace_back(self, source: npt.NDArray[np.uint8], end: tuple[int, int, int]) -> npt.NDArray[np.int64]:
        path = np.empty(len(source), np.int64)
        beat, tempo, spent = end
        stop = len(source)
        while stop > 0:
            begin = stop - spent
            states = self._first[beat, tempo] + np.arange(spent)
            path[max(0, begin) : stop] = states[max(0, -begin) :]
            if begin >= 0:
                tempo = int(source[begin, beat, tempo])
                beat = (beat - 1) % self._beats
                spent = int(self._lengths[tempo])
            stop = begin
        return path


@numba.njit(nogil=True, cache=True)
def _advance(
    first: int,
    last: int,
    entries: npt.NDArray[np.float64],
    source: npt.NDArray[np.uint8],
    sums: npt.NDArray[np.float64],
    lengths: npt.NDArray[np.int64],
    pulse_lengths: npt.NDArray[np.int64],
    log_transitions: npt.NDArray[np.float64],
) -> None:
    """Fills `entries` and `source` for the frames from `first` to before `last`; see `BarDecoder.viterbi`."""
    longest, beats, tempi = entries.shape
    left = np.empty((beats, tempi))
    for frame in range(first, last):
        for tempo in range(tempi):
            length = lengths[tempo]
            entered = frame - length
            begin = longest + entered
            turn = begin + min(pulse_lengths[tempo], length)
            rest = sums[begin + length, 0] - sums[turn, 0]
            for beat in range(beats):
                column = 2 if beat == 0 else 1
                inside = rest + (sums[turn, column] - sums[begin, column])
                left[beat, tempo] = entries[entered % longest, beat, tempo] + inside
        for beat in range(beats):
            for tempo in range(tempi):
                best, chosen = -np.inf, 0
                for before in range(tempi):
                    score = left[beat - 1, before] + log_transitions[beat, before, tempo]
                    if score > best:
                        best, chosen = score, before
                entries[frame % longest, beat, tempo] = best
                source[frame, beat, tempo] = chosen
