"""The global key with madmom's convolutional network.

Korzeniowski and Widmer, "Genre-Agnostic Key Classification with Convolutional Neural Networks", ISMIR 2018.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends import madmom_stages
from services.analysis.backends.base import Audio, Context, Key, Progress
from services.analysis.backends.features import is_tonal
from services.analysis.backends.madmom_networks import ConvolutionalNetwork
from services.common.weights import WeightStore

NO_KEY = Key(tonic="", mode="", confidence=0.0)


class MadmomKey:
    """The network, loaded; `confidence` is its probability of the key it found."""

    def __init__(self) -> None:
        madmom_stages.prepare()
        from madmom.features.key import KEY_LABELS, CNNKeyRecognitionProcessor

        _, self._framing, *self._steps, ensemble, self._add_axis, self._softmax = CNNKeyRecognitionProcessor()
        networks, self._average = ensemble
        self._networks = [ConvolutionalNetwork(network) for network in networks]
        self._labels: list[str] = KEY_LABELS

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Key:
        """See `services.analysis.backends.base.Backend`."""
        if not is_tonal(audio):
            # The network always names some key, noise and silence included.
            progress(1.0)
            return NO_KEY
        probabilities = self.probabilities(audio, progress)
        best = int(probabilities.argmax())
        tonic, mode = self._labels[best].split()
        return Key(tonic=tonic, mode="major" if mode == "major" else "minor", confidence=float(probabilities[best]))

    def probabilities(self, audio: Audio, progress: Progress) -> npt.NDArray[np.float32]:
        """The network's probability of each of madmom's 24 keys (`madmom.features.key.KEY_LABELS`)."""
        blocks = []
        for done, block in madmom_stages.spectrogram(self._framing, self._steps, madmom_stages.signal(audio)):
            blocks.append(block)
            progress(0.1 * done)
        bands = np.concatenate(blocks)
        count = len(self._networks)
        predictions = [
            network(bands, madmom_stages.part(progress, 0.1 + 0.9 * i / count, 0.1 + 0.9 * (i + 1) / count))
            for i, network in enumerate(self._networks)
        ]
        probabilities: npt.NDArray[np.float32] = self._softmax(self._add_axis(self._average(predictions)))[0]
        return probabilities


def load(store: WeightStore | None, model: str, device: str) -> MadmomKey:
    """See `services.analysis.backends.base.Loader`."""
    return MadmomKey()
