"""Chords of 14 qualities with the published model of BTC, see `btc_network`."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from services.analysis.backends.base import Chords, Context, Progress, Tuning
from services.analysis.backends.chords import btc_weights
from services.analysis.backends.chords.btc_network import BINS, BtcNetwork
from services.analysis.backends.chords.segments import NO_CHORD, segments, without_chords
from services.analysis.backends.signal.features import has_sound, mono
from services.analysis.backends.signal.tuning import STANDARD, tuning_of
from services.common.samples import Audio
from services.common.weights.store import WeightStore

SAMPLE_RATE_HZ = 22_050
HOP = 2048
PIECE_SAMPLES = 10 * SAMPLE_RATE_HZ
WINDOW_FRAMES = 108
SECONDS_PER_FRAME = 10 / WINDOW_FRAMES
ROOTS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# fmt: off
QUALITIES = (
    "min", "maj", "dim", "aug", "min6", "maj6", "min7", "minmaj7", "maj7", "7", "dim7", "hdim7", "sus2", "sus4",
)
# fmt: on
UNKNOWN = 168
LABELS = (*(f"{root}:{quality}" for root in ROOTS for quality in QUALITIES), "X", NO_CHORD)

_WINDOWS_AT_ONCE = 8
_BINS_PER_OCTAVE = 24


class BtcChords:
    """The loaded network; a segment's confidence is the mean probability of its chord.

    The class X, which marks unnamed chords in the training data, is never an answer.

    Args:
        checkpoint: the published file; only tensors and numbers are read from it.
        device: "cpu" or "cuda".
    """

    def __init__(self, checkpoint: Path, device: str) -> None:
        kept = _read(checkpoint)
        self._mean, self._deviation = float(kept["mean"]), float(kept["std"])
        self._device = device
        # The checkpoint also has a recurrent layer, which the published code does not use.
        weights = {name: value for name, value in kept["model"].items() if not name.startswith("output_layer.lstm.")}
        self._network = BtcNetwork()
        self._network.load_state_dict(weights)
        self._network.to(device).eval()

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Chords:
        """See `services.analysis.backends.base.Backend`."""
        if not has_sound(audio):
            progress(1.0)
            return without_chords(audio.duration)
        spectrum = constant_q(mono(audio, SAMPLE_RATE_HZ), lambda done: progress(0.6 * done), tuning_of(audio))
        probabilities = self.probabilities(spectrum, lambda done: progress(0.6 + 0.4 * done))
        probabilities[:, UNKNOWN] = 0
        classes = probabilities.argmax(axis=1)
        chosen = probabilities[np.arange(len(classes)), classes]
        return segments([LABELS[c] for c in classes], chosen, SECONDS_PER_FRAME, audio.duration)

    @torch.inference_mode()
    def probabilities(self, spectrum: npt.NDArray[np.float32], progress: Progress) -> npt.NDArray[np.float32]:
        """The probabilities of all classes, including X: [frames, 170].

        Args:
            spectrum: the result of `constant_q`.
            progress: called after each few windows.
        """
        frames = len(spectrum)
        normalised = (spectrum - self._mean) / self._deviation
        windows = np.pad(normalised, ((0, -frames % WINDOW_FRAMES), (0, 0))).reshape(-1, WINDOW_FRAMES, BINS)
        found = []
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            batch = torch.tensor(windows[start : start + _WINDOWS_AT_ONCE], device=self._device)
            found.append(self._network(batch).softmax(dim=-1).flatten(0, 1).cpu().numpy())
            progress(min(1.0, (start + len(batch)) / len(windows)))
        return np.concatenate(found)[:frames]


def constant_q(mix: npt.NDArray[np.float32], progress: Progress, tuning: Tuning = STANDARD) -> npt.NDArray[np.float32]:
    """The network's input before normalisation: log magnitudes [frames, 144], 24 bins per octave from C1.

    Each piece of 10 s is transformed separately, as in training.

    Args:
        mix: mono [samples] at 22.05 kHz.
        progress: called after each piece.
        tuning: of the song; bins are moved by it.
    """
    import librosa

    pieces = []
    for start in range(0, len(mix), PIECE_SAMPLES):
        piece = mix[start : start + PIECE_SAMPLES]
        cents = float(tuning.at(np.array([(start + len(piece) / 2) / SAMPLE_RATE_HZ]))[0])
        # The last piece can be too short to be halved for each octave.
        piece = np.pad(piece, (0, max(0, HOP - len(piece))))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "n_fft=.* is too large")
            pieces.append(
                librosa.cqt(
                    piece,
                    sr=SAMPLE_RATE_HZ,
                    hop_length=HOP,
                    n_bins=BINS,
                    bins_per_octave=_BINS_PER_OCTAVE,
                    tuning=cents / 1200 * _BINS_PER_OCTAVE,
                )
            )
        progress(min(1.0, (start + PIECE_SAMPLES) / len(mix)))
    return np.asarray(np.log(np.abs(np.concatenate(pieces, axis=1)) + 1e-6).T, np.float32)


def _read(checkpoint: Path) -> dict[str, Any]:
    """Reads tensors and two numpy scalars from the checkpoint; numpy's modules may have their old or new names."""
    scalar: Any = np.float64().__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    types = [type(np.dtype(kind)) for kind in (np.float32, np.float64)]
    read: list[Any] = [*((scalar, name) for name in names), np.dtype, *types]
    with torch.serialization.safe_globals(read):
        kept: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return kept


def load(store: WeightStore | None, model: str, device: str) -> BtcChords:
    """See `services.analysis.backends.base.Loader`."""
    assert store is not None
    return BtcChords(store.fetch(btc_weights.LARGE_VOCABULARY)[0], device)
