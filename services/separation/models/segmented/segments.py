"""Cuts a song into overlapping segments and joins them, as `demucs.apply.apply_model` does, but along the song.

They give the same numbers as the package `demucs` (A. Défossez and others): segments are widened by the samples
that really surround them, networks' outputs are faded into each other by triangles, models and time shifts are
averaged. Demucs holds whole songs for each of these steps; here every function hands on what is finished, so that
nothing grows with the song. All positions are samples of the mix; what lies outside of it is silence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.common.samples import Samples

BLOCK = 2**20  # samples: 8 MB in float64


@dataclass(frozen=True, slots=True)
class Segment:
    """The place of a segment: `samples` of the mix from `start` on, which may lie before the mix."""

    start: int
    samples: int


@dataclass(frozen=True, slots=True)
class Level:
    """The mean and the deviation of a mix. Networks get the mix normalised to 0 and 1."""

    mean: float
    deviation: float

    def restore(self, stems: Tensor) -> Tensor:
        """Brings stems of the normalised mix, of any shape, to the mix's level."""
        return stems * self.deviation + self.mean


def level_of(mix: Samples) -> Level:
    """Mean and deviation of the mean of both channels, as demucs' own `Separator` takes them, block by block.

    Args:
        mix: float32 [2, samples], at least one sample.
    """
    samples = mix.shape[1]
    mean = sum(float(block.sum()) for block in _mono_blocks(mix)) / samples
    power = sum(float(np.square(block - mean).sum()) for block in _mono_blocks(mix)) / max(1, samples - 1)
    return Level(mean, float(power**0.5) + 1e-8)


def _mono_blocks(mix: Samples) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, mix.shape[1], BLOCK):
        yield mix[:, start : start + BLOCK].mean(axis=0, dtype=np.float64)


def stride_of(segment_samples: int, overlap: float) -> int:
    """Samples from one segment's start to the next one's."""
    return max(1, int((1 - overlap) * segment_samples))


def segments_of(begin: int, end: int, segment_samples: int, stride: int) -> list[Segment]:
    """The segments of the samples from `begin` to before `end`: one every `stride`, cut off at `end`."""
    return [Segment(start, min(segment_samples, end - start)) for start in range(begin, end, stride)]


def window(mix: Samples, segment: Segment, samples: int, level: Level) -> Tensor:
    """A segment as a network takes it: normalised, and widened on both sides by what surrounds it in the mix.

    Args:
        mix: float32 [2, samples].
        segment: the segment.
        samples: the wanted length, at least the segment's.
        level: of the mix.

    Returns:
        float32 [2, samples]; beyond the mix zeros, which is the mix's mean.
    """
    start = segment.start - (samples - segment.samples) // 2
    first, last = max(0, start), max(0, min(mix.shape[1], start + samples))
    wide = np.zeros((2, samples), np.float32)
    if first < last:
        inside = wide[:, first - start : last - start]
        np.subtract(mix[:, first:last], np.float32(level.mean), out=inside)
        inside /= np.float32(level.deviation)
    return torch.from_numpy(wide)


def centre(output: Tensor, samples: int) -> Tensor:
    """The middle `samples` of a network's output, an odd one dropped on the right; undoes the widening of `window`."""
    left = (output.shape[-1] - samples) // 2
    return output[..., left : left + samples]


def triangle(segment_samples: int) -> Tensor:
    """The weight [segment_samples] of a segment's samples among those that overlap: highest in its middle, never 0."""
    half = segment_samples // 2
    weight = torch.cat([torch.arange(1, half + 1), torch.arange(segment_samples - half, 0, -1)])
    return weight / weight.max()


class OverlapAdd:
    """Fades segments into each other; between two of them it holds only the part that they share."""

    def __init__(self, segment_samples: int, stride: int) -> None:
        """Starts before the first segment.

        Args:
            segment_samples: length of a full segment.
            stride: samples from one segment's start to the next one's.
        """
        self._stride = stride
        self._triangle = triangle(segment_samples)
        self._sum: Tensor | None = None
        self._weights = self._triangle[:0]

    def add(self, output: Tensor) -> Tensor:
        """Adds the next segment.

        Args:
            output: a segment's [sources, 2, samples], full but at the song's end.

        Returns:
            [sources, 2, samples] that no later segment touches: one stride, or what is left at the song's end.
        """
        samples = output.shape[-1]
        self._triangle = self._triangle.to(output.device)
        weights = self._triangle[:samples].clone()
        total = output * weights
        if self._sum is not None:
            shared = self._sum.shape[-1]
            total[..., :shared] += self._sum
            weights[:shared] += self._weights
        done = min(self._stride, samples)
        self._sum, self._weights = total[..., done:].clone(), weights[done:].clone()
        return total[..., :done] / weights[:done]


def skip(blocks: Iterator[Tensor], samples: int) -> Iterator[Tensor]:
    """Drops the first `samples` of consecutive blocks [..., samples]."""
    for block in blocks:
        dropped = min(samples, block.shape[-1])
        samples -= dropped
        if dropped < block.shape[-1]:
            yield block[..., dropped:]
        del block  # while the next one is computed, this one is not needed


def mean_of(passes: Sequence[Iterator[Tensor]], weights: Sequence[Sequence[float]]) -> Iterator[Tensor]:
    """Averages several passes over one song, position by position: none runs ahead of the others by more than it must.

    Args:
        passes: each gives consecutive blocks [sources, 2, samples]; their blocks may differ in length, not their sum.
        weights: [passes][sources], of any scale, no source without a weight.

    Returns:
        Consecutive blocks [sources, 2, samples].
    """
    factors = torch.tensor(weights, dtype=torch.float32)[..., None, None]
    waiting: list[Tensor | None] = [None] * len(passes)
    while True:
        for index, blocks in enumerate(passes):
            if waiting[index] is None:
                waiting[index] = next(blocks, None)
        ready = [block for block in waiting if block is not None]
        if len(ready) < len(passes):
            return
        count = min(block.shape[-1] for block in ready)
        mean = _weighted([block[..., :count] for block in ready], factors)
        waiting = [block[..., count:] if block.shape[-1] > count else None for block in ready]
        del ready  # see `skip`: over 10 minutes, eight passes of 44 s segments held 1328 MB with these, 840 MB without
        yield mean
        del mean


def _weighted(blocks: Sequence[Tensor], factors: Tensor) -> Tensor:
    factors = factors.to(blocks[0].device)
    result = torch.zeros_like(blocks[0])
    for block, factor in zip(blocks, factors, strict=True):
        result += block * factor
    return result / factors.sum(dim=0)
