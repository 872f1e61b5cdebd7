"""The global key with madmom's convolutional network.

Korzeniowski and Widmer, "Genre-Agnostic Key Classification with Convolutional Neural Networks", ISMIR 2018.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Context, Key, Progress
from services.analysis.backends.key.profiles import NO_KEY, unchanging
from services.analysis.backends.madmom import stages
from services.analysis.backends.madmom.networks import ConvolutionalNetwork
from services.analysis.backends.signal.features import is_tonal
from services.common.samples import Audio
from services.common.weights.store import WeightStore

# The network pools this many frames into one; it needs at least as many.
POOLED_FRAMES = 8
# madmom numbers keys from A upwards, we from C.
_FROM_C = [(number - 9) % 12 + 12 * mode for mode in range(2) for number in range(12)]


class MadmomKey:
    """The loaded network; `confidence` is its probability of the key."""

    def __init__(self) -> None:
        stages.prepare()
        from madmom.features.key import CNNKeyRecognitionProcessor
        from madmom.ml.nn import NeuralNetwork
        from madmom.ml.nn.layers import AverageLayer

        _, self._framing, *self._steps, ensemble, self._add_axis, self._softmax = CNNKeyRecognitionProcessor()
        networks, self._average = ensemble
        # The networks end with a mean over time and bands; here the mean over time is left out.
        self._networks = [
            ConvolutionalNetwork(NeuralNetwork([*network.layers[:-1], AverageLayer(axis=1)])) for network in networks
        ]

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Key:
        """See `services.analysis.backends.base.Backend`."""
        if not is_tonal(audio):
            # The network always finds a key, even in noise and silence.
            progress(1.0)
            return NO_KEY
        probabilities = self.probabilities(audio, progress)[_FROM_C]
        best = int(probabilities.argmax())
        return unchanging(best, audio.duration, float(probabilities[best]))

    def probabilities(self, audio: Audio, progress: Progress) -> npt.NDArray[np.float32]:
        """The network's probability of each of madmom's 24 keys (`madmom.features.key.KEY_LABELS`)."""
        scores = self._scores(audio, progress).mean(axis=0)
        probabilities: npt.NDArray[np.float32] = self._softmax(self._add_axis(scores))[0]
        return probabilities

    def scores(self, audio: Audio, progress: Progress) -> npt.NDArray[np.float32]:
        """The network's output at each moment: [frames, 24], keys as `profiles` numbers them.

        Frames are equal parts of the track of about 1.6 s; each depends on some seconds around it. The softmax of the
        mean over a passage gives the network's probabilities there.
        """
        return self._scores(audio, progress)[:, _FROM_C]

    def _scores(self, audio: Audio, progress: Progress) -> npt.NDArray[np.float32]:
        blocks = []
        for done, block in stages.spectrogram(self._framing, self._steps, stages.in_tune(audio)[0]):
            blocks.append(block)
            progress(0.1 * done)
        bands = np.concatenate(blocks)
        bands = np.pad(bands, ((0, max(0, POOLED_FRAMES - len(bands))), (0, 0)))
        count = len(self._networks)
        predictions = [
            network(bands, stages.part(progress, 0.1 + 0.9 * i / count, 0.1 + 0.9 * (i + 1) / count))
            for i, network in enumerate(self._networks)
        ]
        scores: npt.NDArray[np.float32] = np.atleast_2d(self._average(predictions))
        return scores


def load(store: WeightStore | None, model: str, device: str) -> MadmomKey:
    """See `services.analysis.backends.base.Loader`."""
    return MadmomKey()
