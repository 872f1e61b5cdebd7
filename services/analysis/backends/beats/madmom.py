"""Beats, downbeats and tempo with madmom.

Böck, Krebs and Widmer, "Joint Beat and Downbeat Tracking with Recurrent Neural Networks", ISMIR 2016: eight
bidirectional LSTMs give the probability of a beat and a downbeat every 10 ms, a dynamic Bayesian network the most
probable sequence of bars of three or four pulses. Which of the pulses are beats, and with which of them bars begin, is
then decided by the harmony too (`levels`, `bars`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Beat, Beats, Context, Progress
from services.analysis.backends.beats.bars import find_bars
from services.analysis.backends.beats.evidence import FRAMES_PER_SECOND, Evidence
from services.analysis.backends.beats.grid import on_grids
from services.analysis.backends.beats.levels import Level, find_level
from services.analysis.backends.madmom import stages
from services.analysis.backends.madmom.bar_decoder import BarDecoder
from services.analysis.backends.madmom.networks import RecurrentNetwork
from services.analysis.backends.signal.features import has_sound
from services.analysis.backends.signal.spectra import spectrum_of
from services.analysis.backends.signal.tempo import curve_of, tempo_of
from services.common.samples import Audio
from services.common.weights.store import WeightStore

BEATS_PER_BAR = (3, 4)
NO_BEATS = Beats(beats=(), bpm=0.0, confidence=0.0, beats_per_bar=0)

# Confidence rises from 0 at the first to 1 at the second of these mean probabilities of the decoded beats: music
# 0.3-0.85, chorales 0.22-0.48, a voice alone 0.21, speech 0.17, white noise 0.08, pink noise 0.03. The decoder itself
# finds beats in everything that is not silent.
_NO_BEAT, _CLEAR_BEAT = 0.1, 0.6
_FEWEST_BEATS = 3
# With fewer bars, levels and meter would be chance.
_FEWEST_BARS = 6
# Frames needed before the first one, for the differences to earlier frames.
_LEAD_FRAMES = 16


class MadmomBeats:
    """The loaded networks; `confidence` comes from their mean probability of a beat at the pulses."""

    def __init__(self) -> None:
        stages.prepare()
        from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

        chain, networks, self._drop_non_beat = RNNDownBeatProcessor()
        _, self._resolutions, _ = chain
        networks, self._average = networks
        self._networks = [RecurrentNetwork(network) for network in networks]
        self._tracker = DBNDownBeatTrackingProcessor(beats_per_bar=list(BEATS_PER_BAR), fps=FRAMES_PER_SECOND)
        self._bars: list[Any] = self._tracker.hmms

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Beats:
        """See `services.analysis.backends.base.Backend`."""
        if not has_sound(audio):
            progress(1.0)
            return NO_BEATS
        activations = self.activations(audio, stages.part(progress, 0.0, 0.8))
        pulses, places = self.pulses(activations, stages.part(progress, 0.8, 0.92))
        spectrum = spectrum_of(audio, stages.part(progress, 0.92, 0.99))
        found = _beats(pulses, places, Evidence(activations, spectrum, audio.duration))
        progress(1.0)
        return found

    def activations(self, audio: Audio, progress: Progress) -> npt.NDArray[np.float32]:
        """Probabilities [frames, 2] of a beat that is not a downbeat, and of a downbeat, 100 frames per second."""
        features = self._features(stages.signal(audio), stages.part(progress, 0.0, 0.2))
        predictions = []
        count = len(self._networks)
        for i, network in enumerate(self._networks):
            predictions.append(
                network(features, stages.part(progress, 0.2 + 0.8 * i / count, 0.2 + 0.8 * (i + 1) / count))
            )
        return np.asarray(self._drop_non_beat(self._average(predictions)))

    def pulses(
        self, activations: npt.NDArray[np.float32], progress: Progress
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """madmom's beats: their times in seconds, and their places in the bar from 1."""
        count = len(self._bars)
        self._tracker.hmms = [
            BarDecoder(bar, stages.part(progress, i / count, (i + 1) / count)) for i, bar in enumerate(self._bars)
        ]
        tracked = self._tracker(activations)
        return tracked[:, 0], tracked[:, 1].astype(int)

    def _features(self, signal: Any, progress: Progress) -> npt.NDArray[np.float32]:
        bands = []
        for i, (framing, *steps) in enumerate(self._resolutions):
            blocks = []
            for done, block in stages.spectrogram(framing, steps, signal, _LEAD_FRAMES):
                blocks.append(block)
                progress((i + done) / len(self._resolutions))
            bands.append(np.concatenate(blocks))
        return np.hstack(bands)


def _beats(pulses: npt.NDArray[np.float64], places: npt.NDArray[np.int64], evidence: Evidence) -> Beats:
    if len(pulses) < _FEWEST_BEATS:
        return NO_BEATS
    level, times = Level(), pulses
    if len(pulses) >= _FEWEST_BARS * places.max():
        per_bar = int(places.max())
        pulses = on_grids(pulses, evidence)
        level = find_level(pulses, per_bar, evidence)
        times = level.beats(pulses)
        places = find_bars(evidence.downbeats(times), per_bar if level.step == 1 else 4, level.ternary)
    heard = float(evidence.pulse(pulses[level.start % level.reliable_every :: level.reliable_every]).mean())
    if heard <= _NO_BEAT:
        return NO_BEATS
    return Beats(
        beats=tuple(Beat(time=float(t), position=int(p)) for t, p in zip(times, places, strict=True)),
        bpm=tempo_of(times),
        confidence=min(1.0, (heard - _NO_BEAT) / (_CLEAR_BEAT - _NO_BEAT)),
        beats_per_bar=int(places.max()),
        curve=curve_of(times),
    )


def load(store: WeightStore | None, model: str, device: str) -> MadmomBeats:
    """See `services.analysis.backends.base.Loader`."""
    return MadmomBeats()
