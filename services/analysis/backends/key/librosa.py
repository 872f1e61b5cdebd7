"""The global key from the chroma of the whole song and key profiles (see `profiles`).

It is light and does not need madmom's models with their licence.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Context, Key, Progress
from services.analysis.backends.key.profiles import NO_KEY, correlations, unchanging
from services.analysis.backends.signal.features import is_tonal, mono
from services.analysis.backends.signal.tuning import tuning_of
from services.common.samples import Audio
from services.common.weights.store import WeightStore

SAMPLE_RATE_HZ = 22_050
_BLOCK_SECONDS = 120
_BINS_PER_OCTAVE = 36


class LibrosaKey:
    """Needs only librosa; `confidence` is the lead of the best key over the next best."""

    def __init__(self) -> None:
        import librosa

        self._librosa = librosa

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Key:
        """See `services.analysis.backends.base.Backend`."""
        if not is_tonal(audio):
            progress(1.0)
            return NO_KEY
        mix, tuning = mono(audio, SAMPLE_RATE_HZ), tuning_of(audio)
        # In blocks, because the transform takes 2 MB for each second of its input.
        blocks = np.array_split(mix, max(1, mix.size // (_BLOCK_SECONDS * SAMPLE_RATE_HZ)))
        chroma = np.zeros(12)
        progress(0.0)
        for i, block in enumerate(blocks):
            cents = float(tuning.at(np.array([(i + 0.5) * audio.duration / len(blocks)]))[0])
            chroma += self._librosa.feature.chroma_cqt(
                y=block, sr=SAMPLE_RATE_HZ, bins_per_octave=_BINS_PER_OCTAVE, tuning=cents / 1200 * _BINS_PER_OCTAVE
            ).sum(axis=1)
            progress((i + 1) / len(blocks))
        return key_of(chroma, audio.duration)


def key_of(chroma: npt.NDArray[np.float64], duration: float) -> Key:
    """The key whose profile correlates best with the chroma (12 values from C upwards) of a song of `duration` seconds.

    The confidence is the lead over the next best key, divided by 1 minus that key's correlation: 0 for a tie.
    """
    if not chroma.std() > 0:
        return NO_KEY
    fits = correlations(chroma)
    second, first = np.sort(fits)[-2:]
    confidence = float(np.clip((first - second) / max(1 - second, 1e-9), 0, 1))
    return unchanging(int(fits.argmax()), duration, confidence)


def load(store: WeightStore | None, model: str, device: str) -> LibrosaKey:
    """See `services.analysis.backends.base.Loader`."""
    return LibrosaKey()
