"""Decoded sound in memory, for code that computes with it; needs only NumPy, no decoder."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""Sound: float32 [channels, samples], full scale at -1 and 1."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Audio:
    """A decoded track: `samples` float32 [channels, samples] in [-1, 1] at `sample_rate_hz`.

    Compared by identity, so that results can be cached as long as the object exists.
    """

    samples: Samples
    sample_rate_hz: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.samples.shape[-1]) / self.sample_rate_hz
