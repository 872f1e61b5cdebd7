"""Passes of a network over a song, segment by segment."""

from collections.abc import Iterator, Sequence
from itertools import count, takewhile

import torch
from torch import Tensor

from services.common.samples import Samples
from services.separation.models.base import Progress
from services.separation.models.segmented.batches import Batches
from services.separation.models.segmented.cutting import Cut
from services.separation.models.segmented.segments import Level, OverlapAdd, Segment, skip, take


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
    """One run of a network over a song."""

    def __init__(self, batches: Batches, mix: Samples, level: Level, cut: Cut) -> None:
        """Prepares a run.

        Args:
            batches: the network.
            mix: float32 [2, samples].
            level: the mix's level.
            cut: the segments of the song.
        """
        self._batches = batches
        self._mix = mix
        self._level = level
        self._cut = cut
        self.segments = cut.segments

    def run(self, tally: Tally, number: int) -> Iterator[Tensor]:
        """Computes the stems.

        Args:
            tally: counts each batch of segments.
            number: index of this pass in the tally.

        Returns:
            Consecutive blocks float32 [sources, 2, samples] of the stems at the network's level, together as long as
            the mix.
        """
        return take(skip(self._blocks(tally, number), self._cut.lead), self._mix.shape[1])

    def _blocks(self, tally: Tally, number: int) -> Iterator[Tensor]:
        overlap_add, done = OverlapAdd(self._cut.stride), count()
        for group in self._groups():
            outputs = self._compute(group)
            tally.add(number, len(group))
            while outputs:  # each is freed before another pass computes
                yield overlap_add.add(outputs.pop(0), self._cut.weights(next(done)))

    def _compute(self, group: Sequence[Segment]) -> list[Tensor]:
        samples = self._batches.network.valid_length(group[0].samples)
        batch = torch.stack([self._cut.window(self._mix, segment, samples, self._level) for segment in group])
        outputs = self._batches(batch)
        return [self._cut.centre(output, segment) for segment, output in zip(group, outputs, strict=True)]

    def _groups(self) -> Iterator[list[Segment]]:
        """Yields batches of neighbouring segments with equal valid lengths. Only the end of a song is shorter."""
        valid_length, first = self._batches.network.valid_length, 0
        while first < len(self.segments):
            samples = valid_length(self.segments[first].samples)
            candidates = self.segments[first : first + self._batches.size]
            group = list(takewhile(lambda segment: valid_length(segment.samples) == samples, candidates))  # noqa: B023
            yield group
            first += len(group)
