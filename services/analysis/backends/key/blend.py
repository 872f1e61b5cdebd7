"""The song's key and its changes, from madmom's network and key profiles together."""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Context, Key, KeyRegion, Progress
from services.analysis.backends.key.evidence import STEP_SECONDS, Evidence, evidence
from services.analysis.backends.key.madmom import MadmomKey
from services.analysis.backends.key.profiles import NO_KEY, key_named
from services.analysis.backends.madmom import stages
from services.analysis.backends.signal.features import is_tonal
from services.analysis.backends.signal.note_activity import note_activity
from services.analysis.backends.signal.state_search import likeliest
from services.common.samples import Audio
from services.common.weights.store import WeightStore

# Cost of a change of key in nats; each second adds one log-probability. 98 % of synthesised songs in one key get one
# key, and in songs with a higher last chorus 96 % of the time has the right key (with 14 and HOME 1.5: 91 % and 96 %).
CHANGE = 20.0
# Bonus for the main key, and for keys of its mode: a chorus with chords of the relative major is not a change of key.
HOME, SAME_MODE = 2.0, 1.0
# One profile always fits a little: the best of 24 has a correlation of 0.54 with random chroma. Drums, noise and speech
# 0.38-0.51, songs 0.61-0.91, a voice alone 0.60-0.75.
LEAST_FIT = 0.55


class BlendKey:
    """The loaded network; `confidence` is the main key's probability, or the mean probability of a region's key in it.

    Args:
        madmom: the network.
    """

    def __init__(self, madmom: MadmomKey) -> None:
        self._madmom = madmom

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Key:
        """See `services.analysis.backends.base.Backend`."""
        if not is_tonal(audio):
            progress(1.0)
            return NO_KEY
        scores = self._madmom.scores(audio, stages.part(progress, 0.0, 0.8))
        activity = note_activity(audio, stages.part(progress, 0.8, 0.95))
        found = key_of(evidence(scores, activity, audio.duration), audio.duration)
        progress(1.0)
        return found


def key_of(found: Evidence, duration: float) -> Key:
    """The main key, by the evidence of the whole song, and regions, by that of the steps; `duration` in seconds."""
    if found.fit < LEAST_FIT:
        return NO_KEY
    main = int(found.whole.argmax())
    steps = _followed(found.steps, main)
    main_region = key_named(main, 0.0, duration, float(np.exp(found.whole[main])))
    return Key(main_region.tonic, main_region.mode, main_region.confidence, _regions(steps, found, duration))


def _followed(steps: npt.NDArray[np.float64], main: int) -> npt.NDArray[np.intp]:
    """The key at each step; the main key at all steps if it would not occur otherwise."""
    favoured = steps.copy()
    favoured[:, main] += HOME
    mode = slice(0, 12) if main < 12 else slice(12, 24)
    favoured[:, mode] += SAME_MODE
    keys = likeliest(favoured, np.full(len(steps), CHANGE))
    return keys if main in keys else np.full_like(keys, main)


def _regions(keys: npt.NDArray[np.intp], found: Evidence, duration: float) -> tuple[KeyRegion, ...]:
    changes = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    starts = [0.0, *(found.start + STEP_SECONDS * step for step in changes[1:-1]), duration]
    return tuple(
        key_named(int(keys[first]), start, end, float(np.exp(found.steps[first:stop, keys[first]]).mean()))
        for first, stop, start, end in zip(changes, changes[1:], starts, starts[1:], strict=False)
    )


def load(store: WeightStore | None, model: str, device: str) -> BlendKey:
    """See `services.analysis.backends.base.Loader`."""
    return BlendKey(MadmomKey())
