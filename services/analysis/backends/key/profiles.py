"""Numbers, names and profiles of the 24 keys; correlates chroma with the key profiles of Krumhansl and Kessler.

Krumhansl, "Cognitive Foundations of Musical Pitch", Oxford University Press 1990: the probe-tone ratings. Keys are
numbered C major to B major, then C minor to B minor.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Key, KeyRegion

NO_KEY = Key(tonic="", mode="", confidence=0.0)
MAJOR_TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
KEYS = 24

Floats = npt.NDArray[np.float64]


def key_named(number: int, start: float, end: float, confidence: float) -> KeyRegion:
    """A region in the key with this number, from `start` to `end` in seconds."""
    if number < 12:
        return KeyRegion(start, end, MAJOR_TONICS[number], "major", confidence)
    return KeyRegion(start, end, MINOR_TONICS[number - 12], "minor", confidence)


def unchanging(number: int, duration: float, confidence: float) -> Key:
    """The result for a song of `duration` seconds in one key."""
    region = key_named(number, 0.0, duration, confidence)
    return Key(region.tonic, region.mode, confidence, (region,))


def correlations(chroma: Floats) -> Floats:
    """The fit of each key's profile.

    Args:
        chroma: [..., 12], from C upwards.

    Returns:
        Correlations in [-1, 1], [..., 24]; 0 for flat chroma.
    """
    return _standardised(chroma) @ _PROFILES.T


def _standardised(values: Floats) -> Floats:
    centred = values - values.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12))


_PROFILES = _standardised(np.array([np.roll(p, i) for p in (MAJOR_PROFILE, MINOR_PROFILE) for i in range(12)]))
