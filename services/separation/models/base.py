"""What every separation model takes and gives: a mix as an array in, stems as arrays out, stretch by stretch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
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
class Hardware:
    """What a model runs on.

    Args:
        device: of torch, such as `cpu` or `cuda`.
        precision: float32, bfloat16, float16, or `auto`: the fastest whose stems stay within -36 dB of float32's.
        memory_gib: of a GPU, that a separation may use; 0: three quarters of what is free when the model is loaded.
        cache: folder where networks that were converted for this machine are kept.
    """

    device: str
    precision: str
    memory_gib: float
    cache: Path


@dataclass(frozen=True, slots=True)
class Stretch:
    """A finished stretch of all stems.

    Args:
        start: its first sample in the song.
        stems: float32 [2, samples] by name, all of one length.
    """

    start: int
    stems: dict[str, Samples]


def join(stretches: Iterable[Stretch], stems: Iterable[str], samples: int) -> dict[str, Samples]:
    """The whole stems, float32 [2, samples] by name, of the stretches of a song of so many samples."""
    whole = {name: np.zeros((2, samples), np.float32) for name in stems}
    for stretch in stretches:
        for name, piece in stretch.stems.items():
            whole[name][:, stretch.start : stretch.start + piece.shape[1]] = piece
    return whole


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the registry: what is known of a model before it is loaded.

    Args:
        name: what a user chooses it by.
        family: the module of this package whose `load(entry, paths, hardware)` makes the `Separator`.
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

    def separate(self, mix: Samples, options: Options, progress: Progress) -> Iterator[Stretch]:
        """Splits a mix; each stretch is given as soon as it is finished.

        Args:
            mix: float32 [2, samples] at `sample_rate_hz`.
            options: see `Options`.
            progress: called with the fraction done, in [0, 1], never falling, 1.0 last; it raises
                `services.common.errors.StoppedError` to stop the work.

        Yields:
            Stretches in order, without gaps or overlaps, that make up the song; none of an empty one.

        Raises:
            InvalidInputError: the mix has another shape or type.
            StoppedError: out of `progress`.
        """
        ...


def check_mix(mix: Samples) -> None:
    """Raises InvalidInputError unless `mix` is float32 [2, samples]."""
    if mix.ndim != 2 or mix.shape[0] != 2 or mix.dtype != np.float32:
        raise InvalidInputError(f"a mix is float32 [2, samples], not {mix.dtype} {list(mix.shape)}", "INVALID_MIX")
