"""The global key from the chroma of the whole song and the key profiles of Krumhansl and Kessler.

Krumhansl, "Cognitive Foundations of Musical Pitch", Oxford University Press 1990: the probe-tone ratings, compared by
correlation. Light, and free of the licence of madmom's models.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Audio, Context, Key, Progress
from services.analysis.backends.features import is_tonal, mono
from services.common.weights import WeightStore

SAMPLE_RATE_HZ = 22_050
NO_KEY = Key(tonic="", mode="", confidence=0.0)
MAJOR_TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
_BLOCK_SECONDS = 120


class LibrosaKey:
    """Nothing to load but librosa; `confidence` is how far the best key leads the next best."""

    def __init__(self) -> None:
        import librosa

        self._librosa = librosa

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Key:
        """See `services.analysis.backends.base.Backend`."""
        if not is_tonal(audio):
            progress(1.0)
            return NO_KEY
        mix = mono(audio, SAMPLE_RATE_HZ)
        # In blocks, because the transform takes 2 MB for every second that it is given at once.
        blocks = np.array_split(mix, max(1, mix.size // (_BLOCK_SECONDS * SAMPLE_RATE_HZ)))
        chroma = np.zeros(12)
        progress(0.0)
        for i, block in enumerate(blocks):
            chroma += self._librosa.feature.chroma_cqt(y=block, sr=SAMPLE_RATE_HZ).sum(axis=1)
            progress((i + 1) / len(blocks))
        return key_of(chroma)


def key_of(chroma: npt.NDArray[np.float64]) -> Key:
    """The key whose profile correlates best with a chroma vector (12 values from C upwards).

    The confidence is the lead over the next best key, as a share of what that leaves unexplained: 0 for a tie.
    """
    if not chroma.std() > 0:
        return NO_KEY
    profiles = np.array([np.roll(p, i) for p in (MAJOR_PROFILE, MINOR_PROFILE) for i in range(12)])
    correlations = np.array([np.corrcoef(profile, chroma)[0, 1] for profile in profiles])
    second, first = np.sort(correlations)[-2:]
    best = int(correlations.argmax())
    confidence = float(np.clip((first - second) / max(1 - second, 1e-9), 0, 1))
    if best < 12:
        return Key(tonic=MAJOR_TONICS[best], mode="major", confidence=confidence)
    return Key(tonic=MINOR_TONICS[best - 12], mode="minor", confidence=confidence)


def load(store: WeightStore | None, model: str, device: str) -> LibrosaKey:
    """See `services.analysis.backends.base.Loader`."""
    return LibrosaKey()
