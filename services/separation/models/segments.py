"""A song in overlapping segments: cutting, weighting, adding up. Pure functions and arrays; no network, no torch.

What comes out equals `demucs.apply.apply_model` (A. Défossez, package demucs), but it comes in order, each stretch as
soon as no later segment touches it, and never more than one segment per pass is held.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.separation.models.base import Samples

_BLOCK_SAMPLES = 1 << 20
_SILENCE = 1e-8

Estimate = Callable[[Samples], Samples]
"""A network: float32 [batch, 2, samples] to [batch, stems, 2, samples]."""


@dataclass(frozen=True, slots=True)
class Song:
    """A mix as networks hear it: the mean and deviation of its mono sum taken out, as demucs' `Separator` does.

    Args:
        mix: float32 [2, samples].
        mean: of the mono sum.
        deviation: of the mono sum.
    """

    mix: Samples
    mean: np.float32
    deviation: np.float32

    @classmethod
    def of(cls, mix: Samples) -> "Song":
        """Measures a mix block by block: a mono copy of half an hour would take 300 MB."""
        samples = mix.shape[1]
        blocks = [mix[:, first : first + _BLOCK_SAMPLES] for first in range(0, samples, _BLOCK_SAMPLES)]
        mean = sum(float(block.mean(axis=0, dtype=np.float64).sum()) for block in blocks) / max(samples, 1)
        squares = sum(float(np.square(block.mean(axis=0, dtype=np.float64) - mean).sum()) for block in blocks)
        deviation = (squares / max(samples - 1, 1)) ** 0.5 + _SILENCE
        return cls(mix, np.float32(mean), np.float32(deviation))

    @property
    def samples(self) -> int:
        """Length of the mix."""
        return int(self.mix.shape[1])

    def read(self, start: int, samples: int) -> Samples:
        """Samples from `start` on, float32 [2, samples], with silence before and after the song."""
        piece = np.zeros((2, samples), np.float32)
        first, last = max(start, 0), min(start + samples, self.samples)
        if first < last:
            piece[:, first - start : last - start] = (self.mix[:, first:last] - self.mean) / self.deviation
        return piece

    def restore(self, stretch: Samples) -> Samples:
        """A stretch of stems [stems, 2, samples] at the mix's level; changes its argument."""
        stretch *= self.deviation
        stretch += self.mean
        return stretch


@dataclass(frozen=True, slots=True)
class Cut:
    """How a pass cuts the song.

    Args:
        segment: samples of a segment.
        overlap: of neighbouring segments, as a fraction of a segment.
        lead: silence before the song, which shifts it against the segments.
    """

    segment: int
    overlap: float
    lead: int = 0

    @property
    def stride(self) -> int:
        """Samples from one segment's start to the next one's."""
        return max(1, int((1 - self.overlap) * self.segment))

    def segments(self, samples: int) -> list[tuple[int, int]]:
        """(start, length) of the segments of a song; starts count from the beginning of the lead."""
        total = samples + self.lead
        return [(start, min(self.segment, total - start)) for start in range(0, total, self.stride)]


def triangle(samples: int) -> Samples:
    """The weight of a segment's samples: highest in its middle, where the network knows both sides."""
    rising = np.arange(1, samples // 2 + 1, dtype=np.float32)
    falling = np.arange(samples - samples // 2, 0, -1, dtype=np.float32)
    weight: Samples = np.concatenate([rising, falling])
    weight /= weight.max()
    return weight


def run_pass(
    song: Song, cut: Cut, estimate: Estimate, valid_length: Callable[[int], int], batch: int
) -> Iterator[Samples]:
    """Runs a network over a song once.

    Args:
        song: what it hears.
        cut: the segments.
        estimate: the network.
        valid_length: samples that the network wants for a segment of so many; what is more is taken from the
            neighbourhood, and cut off again.
        batch: segments handed to the network at a time.

    Yields:
        After each segment a finished stretch [stems, 2, samples], possibly empty; together they are the song.
    """
    weight = triangle(cut.segment)
    segments = cut.segments(song.samples)
    total = np.zeros((0, 2, cut.segment), np.float32)
    weights = np.zeros(cut.segment, np.float32)
    end = song.samples + cut.lead
    for (start, samples), stems in zip(
        segments, _estimates(song, cut, segments, estimate, valid_length, batch), strict=True
    ):
        if not len(total):
            total = np.zeros((len(stems), 2, cut.segment), np.float32)
        total[..., :samples] += weight[:samples] * stems
        weights[:samples] += weight[:samples]
        count = min(cut.stride, end - start)
        finished = total[..., :count] / weights[:count]
        total, weights = _advance(total, count), _advance(weights, count)
        yield finished[..., max(0, cut.lead - start) :]


def _advance(buffer: Samples, count: int) -> Samples:
    rest = np.zeros_like(buffer)
    rest[..., : buffer.shape[-1] - count] = buffer[..., count:]
    return rest


def _estimates(
    song: Song,
    cut: Cut,
    segments: Sequence[tuple[int, int]],
    estimate: Estimate,
    valid_length: Callable[[int], int],
    batch: int,
) -> Iterator[Samples]:
    """The network's stems [stems, 2, length] of each segment; those of equal size go together."""
    for width, alike in itertools.groupby(segments, key=lambda segment: valid_length(segment[1])):
        while group := list(itertools.islice(alike, batch)):
            # Half of what is too much lies before the segment.
            pieces = [song.read(start - cut.lead - (width - length) // 2, width) for start, length in group]
            for (_start, length), stems in zip(group, estimate(np.stack(pieces)), strict=True):
                before = (stems.shape[-1] - length) // 2
                yield stems[..., before : before + length]


def merge(passes: Sequence[Iterator[Samples]], shares: Sequence[Samples]) -> Iterator[Samples]:
    """The weighted mean of passes over the same song, as far as all of them have come.

    Args:
        passes: as from `run_pass`; the stretches of each may be cut elsewhere.
        shares: float32 [stems] of each pass; together they are 1 for every stem.

    Yields:
        A stretch after each step of any pass, possibly empty.
    """
    waiting: list[deque[Samples]] = [deque() for _ in passes]
    going = set(range(len(passes)))
    while going:
        behind = min(going, key=lambda index: sum(stretch.shape[-1] for stretch in waiting[index]))
        stretch = next(passes[behind], None)
        if stretch is None:
            going.remove(behind)
            continue
        waiting[behind].append(stretch)
        yield _mean_of_fronts(waiting, shares)


def _mean_of_fronts(waiting: list[deque[Samples]], shares: Sequence[Samples]) -> Samples:
    """Takes off what all passes have and averages it."""
    stems = len(shares[0])
    pieces = []
    while all(waiting):
        count = min(queue[0].shape[-1] for queue in waiting)
        piece = np.zeros((stems, 2, count), np.float32)
        for queue, share in zip(waiting, shares, strict=True):
            stretch = queue.popleft()
            piece += share[:, None, None] * stretch[..., :count]
            if count < stretch.shape[-1]:
                queue.appendleft(stretch[..., count:])
        pieces.append(piece)
    return np.concatenate(pieces, axis=-1) if pieces else np.zeros((stems, 2, 0), np.float32)
