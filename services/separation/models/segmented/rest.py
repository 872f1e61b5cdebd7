"""Gives the rest of the mix beside the stem of a network that has only one."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from services.common.samples import Samples
from services.separation.models.base import Chunk, Options, Progress
from services.separation.models.segmented.separator import SegmentedSeparator


class WithRest:
    """A `Separator` with two stems: the second is the mix without the first.

    Args:
        separator: gives the first stem.
        rest: the name of the second.
        factor: number by which the first is multiplied before it is subtracted from the mix; with 1 they add up to it.
    """

    def __init__(self, separator: SegmentedSeparator, rest: str, factor: float = 1.0) -> None:
        self._separator = separator
        self._rest = rest
        self._factor = factor
        (self._stem,) = separator.stems
        self.stems: tuple[str, ...] = (self._stem, rest)
        self.sample_rate_hz = separator.sample_rate_hz

    def separate(self, mix: Samples, options: Options, progress: Progress) -> Iterator[Chunk]:
        """See `Separator.separate`."""
        return self._with_rest(mix, self._separator.separate(mix, replace(options, stems=()), progress))

    def _with_rest(self, mix: Samples, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            stem = chunk.stems[self._stem]
            rest = mix[:, chunk.start : chunk.start + chunk.samples] - np.float32(self._factor) * stem
            yield Chunk(chunk.start, {self._stem: stem, self._rest: rest})
