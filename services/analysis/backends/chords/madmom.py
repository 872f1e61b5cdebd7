"""Major and minor triads with madmom's convolutional network and conditional random field.

Korzeniowski and Widmer, "A Fully Convolutional Deep Auditory Model for Musical Chord Recognition", MLSP 2016.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Chords, Context, Progress
from services.analysis.backends.chords.segments import NO_CHORD, segments, without_chords
from services.analysis.backends.madmom import stages
from services.analysis.backends.madmom.networks import ConvolutionalNetwork
from services.analysis.backends.signal.features import has_sound
from services.common.samples import Audio
from services.common.weights.store import WeightStore

FRAMES_PER_SECOND = 10
# madmom's classes: majors from A upwards, minors from A upwards, no chord.
ROOTS = ("A", "Bb", "B", "C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab")
LABELS = (*(f"{root}:maj" for root in ROOTS), *(f"{root}:min" for root in ROOTS), NO_CHORD)

_FRAMES_AT_ONCE = 300
_CONTEXT_FRAMES = 11


class MadmomChords:
    """The loaded network and random field; a segment's confidence is the mean marginal probability of its chord."""

    def __init__(self) -> None:
        stages.prepare()
        from madmom.features.chords import CNNChordFeatureProcessor, CRFChordRecognitionProcessor

        chain = list(CNNChordFeatureProcessor())
        _, self._framing, *self._steps, _, network, self._superframes, self._average = chain
        self._network = ConvolutionalNetwork(network)
        self._field, _ = CRFChordRecognitionProcessor()

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Chords:
        """See `services.analysis.backends.base.Backend`."""
        if not has_sound(audio):
            progress(1.0)
            return without_chords(audio.duration)
        features, seconds_per_frame = self.features(audio, stages.part(progress, 0.0, 0.98))
        classes = self._field(features).astype(int)
        probabilities = marginals(self._field, features)[np.arange(len(classes)), classes]
        progress(1.0)
        return segments([LABELS[c] for c in classes], probabilities, seconds_per_frame, audio.duration)

    def features(self, audio: Audio, progress: Progress) -> tuple[npt.NDArray[np.float64], float]:
        """The network's features [frames, 128], and the seconds from frame to frame, 0.1 if the song is in tune.

        Computed 30 s at a time, with the network's receptive field on both sides; the result is the same.
        """
        signal, stretch = stages.in_tune(audio)
        spectra = stages.spectrogram(self._framing, self._steps, signal)
        bands = np.concatenate([block for _, block in spectra])
        frames = len(bands)
        padded = np.pad(bands, ((_CONTEXT_FRAMES, _CONTEXT_FRAMES), (0, 0)))
        blocks = []
        for start in range(0, frames, _FRAMES_AT_ONCE):
            stop = min(frames, start + _FRAMES_AT_ONCE)
            maps = self._network(padded[start : stop + 2 * _CONTEXT_FRAMES], _ignored)
            blocks.append(self._average(self._superframes(maps)))
            progress(stop / frames)
        return np.concatenate(blocks), 1 / (FRAMES_PER_SECOND * stretch)


def _ignored(_done: float) -> None:
    pass


def marginals(field: Any, features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Probability of every class in every frame of a linear-chain random field, given all frames.

    The forward-backward algorithm on the potentials of `madmom.ml.crf.ConditionalRandomField`, which itself only
    decodes.

    Args:
        field: has the potentials `pi` (initial), `tau` (final), `c` (bias), `A` (transition) and `W` (observation).
        features: [frames, features].

    Returns:
        [frames, classes]; each row sums to 1.
    """
    scores = field.c + features @ field.W
    transitions = np.exp(field.A - field.A.max())
    count, classes = scores.shape
    forward = np.empty((count, classes))
    backward = np.empty((count, classes))
    state = field.pi - field.pi.max()
    for i in range(count):
        peak = state.max()
        forward[i] = np.log(np.exp(state - peak) @ transitions) + scores[i]
        forward[i] -= forward[i].max()
        state = forward[i]
    backward[-1] = field.tau
    for i in range(count - 1, 0, -1):
        state = backward[i] + scores[i]
        backward[i - 1] = np.log(transitions @ np.exp(state - state.max()))
    joint = forward + backward
    joint = np.exp(joint - joint.max(axis=1, keepdims=True))
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))


def load(store: WeightStore | None, model: str, device: str) -> MadmomChords:
    """See `services.analysis.backends.base.Loader`."""
    return MadmomChords()
