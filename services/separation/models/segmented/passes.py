"""A network's pass over a song, segment after segment; yields finished pieces."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from random import Random

import torch
from torch import Tensor

from services.common.samples import Samples
from services.separation.models.base import Options, Progress
from services.separation.models.segmented.batches import Batches
from services.separation.models.segmented.network import Network
from services.separation.models.segmented.segments import (
    Level,
    OverlapAdd,
    Segment,
    centre,
    segments_of,
    skip,
    stride_of,
    window,
)


class Tally:
    """The progress of several passes. Each counts the same, with any number of segments."""

    def __init__(self, progress: Progress, segments: Sequence[int]) -> None:
        """Starts at nothing.

        Args:
            progress: called with the fraction done.
            segments: how many each pass has.
        """
        self._progress = progress
        self._segments = tuple(segments)
        self._done = [0] * len(segments)

    def add(self, number: int, segments: int) -> None:
        """Tells that the pass of that number has computed so many segments more."""
        self._done[number] += segments
        parts = [done / all_ for done, all_ in zip(self._done, self._segments, strict=True)]
        self._progress(sum(parts) / len(parts))


class Pass:
    """One run of a network over a song, possibly shifted in time."""

    def __init__(self, batches: Batches, mix: Samples, level: Level, overlap: float, lead: int = 0) -> None:
        """Lays the song out in segments.

        Args:
            batches: the network.
            mix: float32 [2, samples].
            level: of the mix.
            overlap: of neighbouring segments, as a fraction of a segment.
            lead: how many samples before the mix the first segment starts.
        """
        network = batches.network
        self._batches = batches
        self._mix = mix
        self._level = level
        self._lead = lead
        self._stride = stride_of(network.segment_samples, overlap)
        self.segments = segments_of(-lead, mix.shape[1], network.segment_samples, self._stride)

    def run(self, tally: Tally, number: int) -> Iterator[Tensor]:
        """Computes.

        Args:
            tally: called after every batch of segments.
            number: of this pass in the tally.

        Returns:
            Consecutive blocks [sources, 2, samples] of the normalised stems, together as long as the mix.
        """
        return skip(self._blocks(tally, number), self._lead)

    def _blocks(self, tally: Tally, number: int) -> Iterator[Tensor]:
        overlap_add = OverlapAdd(self._batches.network.segment_samples, self._stride)
        for group in self._groups():
            outputs = self._compute(group)
            tally.add(number, len(group))
            while outputs:  # they are let go one by one, before the next pass computes
                yield overlap_add.add(outputs.pop(0))

    def _compute(self, group: Sequence[Segment]) -> list[Tensor]:
        samples = self._batches.network.valid_length(group[0].samples)
        batch = torch.stack([window(self._mix, segment, samples, self._level) for segment in group])
        return [centre(output, segment.samples) for segment, output in zip(group, self._batches(batch), strict=True)]

    def _groups(self) -> Iterator[list[Segment]]:
        """As many neighbouring segments as a batch takes; only the last ones of a song differ in length."""
        valid_length, first = self._batches.network.valid_length, 0
        while first < len(self.segments):
            samples = valid_length(self.segments[first].samples)
            candidates = self.segments[first : first + self._batches.size]
            group = list(takewhile(lambda segment: valid_length(segment.samples) == samples, candidates))  # noqa: B023
            yield group
            first += len(group)


def passes_of(
    network: Network, mix: Samples, level: Level, options: Options, sample_rate_hz: int, random: Random
) -> list[Pass]:
    """A network's passes over a song: one, or one for each of the time shifts.

    Each shift starts the song up to half a second earlier, which moves the borders of all segments; demucs draws how
    much less than half a second.

    Args:
        network: computes the segments.
        mix: float32 [2, samples].
        level: of the mix.
        options: see `Options`.
        sample_rate_hz: rate of the mix.
        random: draws the shifts.
    """
    most = sample_rate_hz // 2
    leads = [most - random.randint(0, most) for _ in range(options.shifts)] or [0]
    batches = Batches(network, options.batch)
    return [Pass(batches, mix, level, options.overlap, lead) for lead in leads]
