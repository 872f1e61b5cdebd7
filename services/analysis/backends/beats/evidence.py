"""Evidence for downbeats, and for which pulses are beats; measured at the times of pulses."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.analysis.backends.signal.spectra import HOP, SAMPLE_RATE_HZ, Spectrum, compressed, means

FRAMES_PER_SECOND = 100

Floats = npt.NDArray[np.float64]
# A beat's activation may peak three frames beside the decoder's beat.
_NEAR_FRAMES = 3
_LEAST_ACTIVATION = 0.005
_HARMONY_WEIGHT = 2.0
_FLUX_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Evidence:
    """The inputs for finding beats in a song.

    Args:
        activations: probabilities [frames, 2] of a beat that is not a downbeat, and of a downbeat, 100 frames per
            second.
        spectrum: of the song.
        duration: of the song, in seconds.
    """

    activations: npt.NDArray[np.float32]
    spectrum: Spectrum
    duration: float

    def pulse(self, times: Floats) -> Floats:
        """Probability of any beat: its peak near each time, [times]."""
        return np.asarray(self._peaks(times).sum(axis=1))

    def votes(self, times: Floats, most: float = 1.0) -> Floats:
        """The network's evidence that each time is a downbeat and not another beat: log odds [times].

        They are clipped to +-`most`, because the network is as sure when it is wrong as when it is right. In reggae,
        where the bass drum plays on the third beat, it is always wrong.
        """
        peaks = np.log(np.maximum(self._peaks(times), _LEAST_ACTIVATION))
        return np.asarray(np.clip(peaks[:, 1] - peaks[:, 0], -most, most))

    def changes(self, times: Floats) -> Floats:
        """The change of harmony at each time, standardised over the song's pulses: mean 0, variance 1.

        It is the distance between the chroma of two pulses. Harmony changes more often at the beginning of a bar.
        """
        end = min(self.duration, float(times[-1] + np.median(np.diff(times))))
        harmony = compressed(means(self.spectrum.chroma, times, end))
        distance = 1 - np.sum(harmony[1:] * harmony[:-1], axis=1)
        found = np.concatenate([[distance.mean()], distance])
        return np.asarray((found - found.mean()) / max(float(found.std()), 1e-9))

    def downbeats(self, times: Floats) -> Floats:
        """Evidence [times] that a bar begins: votes and changes, with mean 0.

        It identifies the first beat of the bar in 95 % of 180 synthesised songs.
        """
        found = self.votes(times) + _HARMONY_WEIGHT * self.changes(times)
        return np.asarray(found - found.mean())

    def accents(self, times: Floats) -> Floats:
        """The strength of onsets at each time [times]."""
        mel = self.spectrum.mel
        levels = np.log1p(mel / (_FLUX_FLOOR * max(float(mel.max()), 1e-12)))
        flux = np.maximum(np.diff(levels, axis=0, prepend=levels[:1]), 0).sum(axis=1)
        frames = np.round(times * SAMPLE_RATE_HZ / HOP).astype(int)
        near = np.clip(frames[:, None] + np.arange(-1, 2), 0, len(flux) - 1)
        return np.asarray(flux[near].max(axis=1), np.float64)

    def _peaks(self, times: Floats) -> Floats:
        frames = np.round(times * FRAMES_PER_SECOND).astype(int)
        near = np.clip(frames[:, None] + np.arange(-_NEAR_FRAMES, _NEAR_FRAMES + 1), 0, len(self.activations) - 1)
        return np.asarray(self.activations[near].max(axis=1), np.float64)
