"""Passes of a network over a song, segment by segment."""

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
    """The progress of several passes, which have equal shares regardless of their numbers of segments."""

    def __init__(self, progress: Progress, segments: Sequence[int]) -> None:
        """Starts at 0.

        Args:
            progress: called with the fraction done, in [0, 1].
            segments: number of segments of each pass.
        """
        self._progress = progress
        self._segments = tuple(segments)
        self._done = [0] * len(segments)

    def add(self, number: int, segments: int) -> None:
        """Counts further segments that a pass has computed, and reports the progress."""
        self._done[number] += segments
        parts = [done / all_ for done, all_ in zip(self._done, self._segments, strict=True)]
        self._progress(sum(parts) / len(parts))


class Pass:
    """One run of a network over a song, possibly shifted in time."""

    def __init__(self, batches: Batches, mix: Samples, level: Level, overlap: float, lead: int = 0) -> None:
        """Divides the song into segments.

        Args:
            batches: the network.
            mix: float32 [2, samples].
            level: the mix's level.
            overlap: overlap of neighbouring segments, as a fraction of a segment.
            lead: number of samples by which the first segment starts before the mix.
        """
        network = batches.network
        self._batches = batches
        self._mix = mix
        self._level = level
        self._lead = lead
        self._stride = stride_of(network.segment_samples, overlap)
        self.segments = segments_of(-lead, mix.shape[1], network.segment_samples, self._stride)

    def run(self, tally: Tally, number: int) -> Iterator[Tensor]:
        """Computes the stems.

        Args:
            tally: counts each batch of segments.
            number: index of this pass in the tally.

        Returns:
            Consecutive blocks float32 [sources, 2, samples] of the normalised stems, together as long as the mix.
        """
        return skip(self._blocks(tally, number), self._lead)

    def _blocks(self, tally: Tally, number: int) -> Iterator[Tensor]:
        overlap_add = OverlapAdd(self._batches.network.segment_samples, self._stride)
        for group in self._groups():
            outputs = self._compute(group)
            tally.add(number, len(group))
            while outputs:  # each is freed before another pass computes
                yield overlap_add.add(outputs.pop(0))

    def _compute(self, group: Sequence[Segment]) -> list[Tensor]:
        samples = self._batches.network.valid_length(group[0].samples)
        batch = torch.stack([window(self._mix, segment, samples, self._level) for segment in group])
        return [centre(output, segment.samples) for segment, output in zip(group, self._batches(batch), strict=True)]

    def _groups(self) -> Iterator[list[Segment]]:
        """Yields batches of neighbouring segments with equal valid lengths. Only the end of a song is shorter."""
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
    """Makes the passes of a network over a song: one, or one for each time shift.

    Each shift starts the song up to half a second earlier, which moves the borders of all segments. Like demucs, this
    draws the difference to half a second.

    Args:
        network: computes the segments.
        mix: float32 [2, samples].
        level: the mix's level.
        options: see `Options`.
        sample_rate_hz: rate of the mix.
        random: draws the shifts.
    """
    most = sample_rate_hz // 2
    leads = [most - random.randint(0, most) for _ in range(options.shifts)] or [0]
    batches = Batches(network, options.batch)
    return [Pass(batches, mix, level, options.overlap, lead) for lead in leads]
