"""The interface of separation models: a mix as an array in, stems as arrays out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from services.common.errors import InvalidInputError
from services.common.samples import Samples
from services.common.weights.catalogue import Entry, Model

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a model, with demucs' meaning.

    Args:
        shifts: number of random time shifts to average over; 0 for none. Models without shifts ignore it.
        overlap: overlap of neighbouring segments as a fraction of a segment, in [0, 1).
        batch: segments computed at once, or fewer if memory is short. It changes only the speed.
        stems: the stems that are needed; empty for all. Others may be left out if that saves work.
    """

    shifts: int = 0
    overlap: float = 0.25
    batch: int = 1
    stems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.shifts < 0:
            raise InvalidInputError(f"shifts must be 0 or more, not {self.shifts}", "INVALID_OPTION")
        if not 0 <= self.overlap < 1:
            raise InvalidInputError(f"overlap must be in [0, 1), not {self.overlap}", "INVALID_OPTION")
        if self.batch < 1:
            raise InvalidInputError(f"batch must be 1 or more, not {self.batch}", "INVALID_OPTION")


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware that a model runs on.

    Args:
        device: torch device, such as `cpu` or `cuda`.
        precision: float32, bfloat16, float16, or `auto`: bfloat16 if the device supports it.
        memory_gib: GPU memory that a separation may use, in GiB; 0: three quarters of the memory that is free when the
            model is loaded.
        cache: folder for networks that were converted for this machine; None not to keep them.
    """

    device: str = "cpu"
    precision: str = "float32"
    memory_gib: float = 0.0
    cache: Path | None = None


CPU = Hardware()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A finished part of all stems.

    Args:
        start: its first sample's position in the mix.
        stems: float32 [2, samples] by name, all equally long, at least one sample.
    """

    start: int
    stems: dict[str, Samples]

    @property
    def samples(self) -> int:
        """Number of samples of each stem."""
        return int(next(iter(self.stems.values())).shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry(Entry):
    """The facts about a model before it is loaded; `cost` is computing time in units of `htdemucs`.

    Args:
        family: the folder of this package whose module `separator` has `load(entry, paths, hardware)`.
        stems: names of its stems; empty if they are known only after loading.
        sample_rate_hz: sample rate of the mix and of the stems.
        rank: `auto` tries the lowest first; None: `auto` tries this model only if an operator lists it.
        restriction: a licence that does not allow every use; `auto` takes it only if an operator permits it.
        overlap: the overlap of segments that the model's authors recommend; None: that of the wanted quality.
    """

    family: str
    stems: tuple[str, ...]
    sample_rate_hz: int
    rank: int | None = None
    overlap: float | None = None
    restriction: str = ""

    def made_by(self, model: Model) -> dict[str, str]:
        """The provenance of its stems; the backend is the family."""
        return {"backend": self.family, "model": self.name, "version": self.version}


class Separator(Protocol):
    """A loaded model, ready for many calls from one thread at a time."""

    stems: tuple[str, ...]
    sample_rate_hz: int

    def separate(self, mix: Samples, options: Options, progress: Progress) -> Iterator[Chunk]:
        """Splits a mix lazily: each chunk is computed when the caller asks for it.

        Args:
            mix: float32 [2, samples] at `sample_rate_hz`.
            options: see `Options`.
            progress: called with the fraction computed, in [0, 1]: first 0.0, never less than before, and 1.0 before
                the last chunk is yielded. It raises `services.common.errors.StoppedError` to stop the work.

        Returns:
            Finished chunks of all `stems` (see `Options.stems`), in order and without gaps, together as long as the
            mix; none for an empty mix. No other memory grows with the length of the song.

        Raises:
            InvalidInputError: the mix has another shape or type; raised by the call, not by the iterator.
            StoppedError: raised by `progress`, and passed on by the iterator.
            NoMemoryError: a single segment does not fit into memory (reason OUT_OF_MEMORY).
        """
        ...


def join(chunks: Iterable[Chunk], stems: Sequence[str]) -> dict[str, Samples]:
    """Joins all chunks of a mix to whole stems, float32 [2, samples] each, which then take memory."""
    pieces = [chunk.stems for chunk in chunks]
    nothing = np.zeros((2, 0), np.float32)
    return {stem: np.concatenate([nothing, *(piece[stem] for piece in pieces)], axis=1) for stem in stems}


def check_mix(mix: Samples) -> None:
    """Raises InvalidInputError unless `mix` is float32 [2, samples]."""
    if mix.ndim != 2 or mix.shape[0] != 2 or mix.dtype != np.float32:
        raise InvalidInputError(f"a mix is float32 [2, samples], not {mix.dtype} {list(mix.shape)}", "INVALID_MIX")
