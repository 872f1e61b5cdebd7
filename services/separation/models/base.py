"""What every separation model takes and gives: a mix as an array in, stems as arrays out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a model, with demucs' meaning.

    Args:
        shifts: average over this many random time shifts (0: none); models that cannot ignore it.
        overlap: overlap of neighbouring segments as a fraction of a segment, in [0, 1).
    """

    shifts: int = 0
    overlap: float = 0.25


class Separator(Protocol):
    """A loaded model: weights in memory, ready for many calls from one thread at a time."""

    stems: tuple[str, ...]
    sample_rate_hz: int

    def separate(self, mix: Samples, options: Options, progress: Progress) -> dict[str, Samples]:
        """Splits a mix.

        Args:
            mix: float32 [2, samples] at `sample_rate_hz`.
            options: see `Options`.
            progress: called with the fraction done, in [0, 1], never falling; it raises
                `services.common.errors.StoppedError` to stop the work.

        Returns:
            One float32 [2, samples] per name in `stems`, as long as the mix.

        Raises:
            StoppedError: out of `progress`.
        """
        ...
