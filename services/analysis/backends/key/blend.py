"""The song's key and its changes: madmom's network and key profiles weighed together, followed along the song."""

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

# In nats, where a second's evidence is one log-probability. Of made songs that stay in one key 98 % are left in it, and
# where the last chorus is higher 96 % of the time is in the right key (with 14 and HOME 1.5: 91 % and 96 %).
CHANGE = 20.0
# A song is in its main key unless something speaks for another, and rather in its mode than in the other one: a chorus
# on the relative major's chords is no change of key.
HOME, SAME_MODE = 2.0, 1.0
# Some profile always fits a little: any of 24 fits random chroma by 0.54. Drums, noise and speech 0.38-0.51, songs
# 0.61-0.91, a voice alone 0.60-0.75.
LEAST_FIT = 0.55


class BlendKey:
    """The network, loaded; `confidence` is the main key's probability, a region's the mean of its key's in it.

    Args:
        madmom: whose network is used.
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
    """The key that the whole speaks for, and the regions that the steps do, in a song of `duration` seconds."""
    if found.fit < LEAST_FIT:
        return NO_KEY
    main = int(found.whole.argmax())
    steps = _followed(found.steps, main)
    main_region = key_named(main, 0.0, duration, float(np.exp(found.whole[main])))
    return Key(main_region.tonic, main_region.mode, main_region.confidence, _regions(steps, found, duration))


def _followed(steps: npt.NDArray[np.float64], main: int) -> npt.NDArray[np.intp]:
    """The key at each step; all of them the main one if it would be none of them."""
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
