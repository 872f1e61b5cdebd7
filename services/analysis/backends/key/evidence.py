"""Evidence for each key, over time and in the whole song: a network, key profiles, the song's start and end.

Each makes other mistakes: the network takes modes and minor songs for their relative majors, the profiles take a fifth
for the tonic, and not every song begins and ends with the tonic.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

from services.analysis.backends.key.profiles import correlations
from services.analysis.backends.signal.note_activity import SECONDS_PER_FRAME, chroma

Floats = npt.NDArray[np.floating]

WINDOW_SECONDS, STEP_SECONDS = 8.0, 1.0
EDGE_SECONDS = 2.0
# Factor from correlations to log-probabilities: a lead of 0.1 makes a key twice as likely.
PROFILE_STEEPNESS = 8.0
# Added to probabilities before the logarithm, so that no single kind of evidence rules a key out.
DOUBT = 0.02
# Weights of a logistic regression over 94 synthesised songs (`songs.key_songs`) and 63 chorales of Bach, rounded.
# Fitted without the kind of song that is scored, the weighted score is 0.93 for synthesised songs and 0.93 for chorales
# (network alone 0.67 and 0.84, profiles alone 0.80 and 0.91).
NETWORK, PROFILE, BEGINNING, END = 0.65, 1.55, 1.0, 0.7
# Added to every minor key, because the network takes minor songs for major ones; of the same regression.
MINOR = 1.2
BASS_BELOW = 54  # F#3
_MAJOR_TRIAD, _MINOR_TRIAD = (np.isin(np.arange(12), tones) for tones in ((0, 4, 7), (0, 3, 7)))
_TRIADS = np.array([np.roll(triad, root) for triad in (_MAJOR_TRIAD, _MINOR_TRIAD) for root in range(12)]) / np.sqrt(3)
# Factors of the cosine between chroma and triad, and of the share of a root in the bass.
TRIAD_STEEPNESS, ROOT_STEEPNESS = 15.0, 2.0
SOUNDING = 0.05  # of the loud frames' level; the song begins and ends with the first and last frame above this


@dataclass(frozen=True, slots=True)
class Evidence:
    """Keys are numbered as in `profiles`.

    Args:
        start: time of the first step in seconds.
        steps: log-probability of each key around each step, `STEP_SECONDS` apart: [steps, 24].
        whole: log-probability that each key is the song's: [24].
        fit: correlation of the best key's profile, averaged over the steps.
    """

    start: float
    steps: npt.NDArray[np.float64]
    whole: npt.NDArray[np.float64]
    fit: float


def evidence(scores: Floats, activity: Floats, duration: float) -> Evidence:
    """Weighs the evidence of a song.

    Args:
        scores: `MadmomKey.scores`, [frames, 24].
        activity: `note_activity`, [frames, pitches]; not silent.
        duration: of the song, in seconds.
    """
    level = np.sqrt((activity**2).sum(axis=1))
    sounding = np.flatnonzero(level >= SOUNDING * np.percentile(level, 95))
    first, stop = int(sounding[0]), int(sounding[-1]) + 1
    start, end = first * SECONDS_PER_FRAME, stop * SECONDS_PER_FRAME
    centres = np.arange(start + STEP_SECONDS / 2, max(end, start + STEP_SECONDS), STEP_SECONDS)
    classes, bass = chroma(activity), chroma(activity, highest=BASS_BELOW)
    fits = correlations(_means(classes, SECONDS_PER_FRAME, centres))
    profiles = softmax(PROFILE_STEEPNESS * fits, axis=1)
    network = softmax(_means(scores, duration / len(scores), centres), axis=1)
    edge = max(1, round(EDGE_SECONDS / SECONDS_PER_FRAME))
    ends = [slice(first, min(stop, first + edge)), slice(max(first, stop - edge), stop)]
    beginning, ending = (_tonic(classes[part], bass[part]) for part in ends)
    whole = _weighed(network.mean(axis=0), profiles.mean(axis=0)) + BEGINNING * beginning + END * ending
    steps = log_softmax(_weighed(network, profiles), axis=1)
    return Evidence(start, steps, log_softmax(whole), float(fits.max(axis=1).mean()))


def _weighed(network: Floats, profiles: Floats) -> npt.NDArray[np.float64]:
    weighed = NETWORK * np.log(network + DOUBT) + PROFILE * np.log(profiles + DOUBT)
    weighed[..., 12:] += MINOR
    return np.asarray(weighed)


def _means(values: Floats, seconds_per_frame: float, centres: Floats) -> npt.NDArray[np.float64]:
    """Means of `values` [frames, n] in the window around each centre."""
    sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(values, axis=0, dtype=np.float64)])
    starts = np.floor((centres - WINDOW_SECONDS / 2) / seconds_per_frame).astype(int).clip(0, len(values) - 1)
    stops = np.ceil((centres + WINDOW_SECONDS / 2) / seconds_per_frame).astype(int).clip(starts + 1, len(values))
    return np.asarray((sums[stops] - sums[starts]) / (stops - starts)[:, None])


def _tonic(classes: Floats, bass: Floats) -> npt.NDArray[np.float64]:
    """The match of each key's triad with the notes, plus that of its root with the bass: [24]."""
    length = np.maximum(np.linalg.norm(classes, axis=1, keepdims=True), 1e-9)
    roots = np.tile(bass / np.maximum(bass.sum(axis=1, keepdims=True), 1e-9), 2)
    triads = softmax(TRIAD_STEEPNESS * (classes / length @ _TRIADS.T) + ROOT_STEEPNESS * roots, axis=1).mean(axis=0)
    heard = bass.sum(axis=0)
    return np.asarray(triads + np.tile(heard / max(heard.sum(), 1e-9), 2))
