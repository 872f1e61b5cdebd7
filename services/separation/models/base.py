"""What every separation model takes and gives: a mix as an array in, stems as arrays out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.common.errors import InvalidInputError
from services.common.weights import Weights

Samples = npt.NDArray[np.float32]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a model, with demucs' meaning.

    Args:
        shifts: average over this many random time shifts (0: none); models that cannot do it ignore it.
        overlap: overlap of neighbouring segments as a fraction of a segment, in [0, 1).
    """

    shifts: int = 0
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.shifts < 0:
            raise InvalidInputError(f"shifts must be 0 or more, not {self.shifts}", "INVALID_OPTION")
        if not 0 <= self.overlap < 1:
            raise InvalidInputError(f"overlap must be in [0, 1), not {self.overlap}", "INVALID_OPTION")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the registry: what is known of a model before it is loaded.

    Args:
        name: what a user chooses it by.
        family: the module of this package whose `load(entry, paths, device)` makes the `Separator`.
        stems: names of its stems; empty where only loading can tell.
        sample_rate_hz: rate of the mix that it takes and of the stems that it gives.
        licence: of the weights, in one line.
        version: changes whenever the same mix may give other stems; part of cache keys.
        cost: compute time in units of `htdemucs`.
        weights: the files that it needs.
        requires: Python modules that only this model needs.
        fault: why it can never be loaded (a damaged file of the user's), empty for a sound one.
    """

    name: str
    family: str
    stems: tuple[str, ...]
    sample_rate_hz: int
    licence: str
    version: str
    cost: float
    weights: Weights
    requires: tuple[str, ...] = ()
    fault: str = ""


class Separator(Protocol):
    """A loaded model: weights in memory, ready for many calls from one thread at a time."""

    stems: tuple[str, ...]
    sample_rate_hz: int

    def separate(self, mix: Samples, options: Options, progress: Progress) -> dict[str, Samples]:
        """Splits a mix.

        Args:
            mix: float32 [2, samples] at `sample_rate_hz`.
            options: see `Options`.
            progress: called with the fraction done, in [0, 1], never falling, 1.0 last; it raises
                `services.common.errors.StoppedError` to stop the work.

        Returns:
            One float32 [2, samples] per name in `stems`, as long as the mix.

        Raises:
            InvalidInputError: the mix has another shape or type.
            StoppedError: out of `progress`.
        """
        ...


def check_mix(mix: Samples) -> None:
    """Raises InvalidInputError unless `mix` is float32 [2, samples]."""
    if mix.ndim != 2 or mix.shape[0] != 2 or mix.dtype != np.float32:
        raise InvalidInputError(f"a mix is float32 [2, samples], not {mix.dtype} {list(mix.shape)}", "INVALID_MIX")
