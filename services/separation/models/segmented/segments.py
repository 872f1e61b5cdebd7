"""Cuts a song into overlapping segments and joins them, as `demucs.apply.apply_model` does, but block by block.

The results equal those of the package `demucs` (A. Défossez and others): segments are widened by the samples around
them, outputs of networks are cross-faded with triangular windows, models and time shifts are averaged. Demucs holds
whole songs in memory for each of these steps. Here every function yields finished blocks, so that memory does not grow
with the song. All positions are in samples of the mix. Outside of the mix there is silence.
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
    """The position of a segment: `samples` of the mix from `start` on. `start` may be before the mix."""

    start: int
    samples: int


@dataclass(frozen=True, slots=True)
class Level:
    """The mean and the standard deviation of a mix. Networks get the mix normalised to mean 0 and deviation 1."""

    mean: float
    deviation: float

    def restore(self, stems: Tensor) -> Tensor:
        """Scales stems of the normalised mix, of any shape, to the mix's level."""
        return stems * self.deviation + self.mean


def level_of(mix: Samples) -> Level:
    """Mean and deviation of the mean of both channels, as in the `Separator` of demucs, computed block by block.

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
    """Number of samples between the starts of neighbouring segments."""
    return max(1, int((1 - overlap) * segment_samples))


def segments_of(begin: int, end: int, segment_samples: int, stride: int) -> list[Segment]:
    """The segments from `begin` to `end`: one every `stride` samples, cut off at `end`."""
    return [Segment(start, min(segment_samples, end - start)) for start in range(begin, end, stride)]


def window(mix: Samples, segment: Segment, samples: int, level: Level) -> Tensor:
    """The input of a network for a segment: normalised, and widened on both sides by the surrounding samples.

    Args:
        mix: float32 [2, samples].
        segment: the segment.
        samples: the wanted length, at least the segment's.
        level: the mix's level.

    Returns:
        float32 [2, samples]; outside of the mix zeros, the mean of the normalised mix.
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
    """The middle `samples` of a network's output, which undoes the widening of `window`.

    If the surplus is odd, one more sample is dropped at the end.
    """
    left = (output.shape[-1] - samples) // 2
    return output[..., left : left + samples]


def triangle(segment_samples: int) -> Tensor:
    """The weights [segment_samples] for cross-fading segments: highest in the middle, never 0."""
    half = segment_samples // 2
    weight = torch.cat([torch.arange(1, half + 1), torch.arange(segment_samples - half, 0, -1)])
    return weight / weight.max()


class OverlapAdd:
    """Cross-fades segments. Between two calls it holds only the overlap of neighbouring segments."""

    def __init__(self, stride: int) -> None:
        """Starts before the first segment.

        Args:
            stride: number of samples between the starts of neighbouring segments.
        """
        self._stride = stride
        self._sum: Tensor | None = None
        self._weights = torch.empty(0)

    def add(self, output: Tensor, weights: Tensor) -> Tensor:
        """Adds the next segment.

        Args:
            output: a segment's output [sources, 2, samples]; only at the end of the song it may be shorter.
            weights: the weights [samples] of its samples; where segments overlap, their sum is above 0.

        Returns:
            [sources, 2, samples] that no later segment overlaps: one stride, or the rest at the end of the song.
        """
        samples = output.shape[-1]
        weights = weights.to(output.device, copy=True)
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
        del block  # frees the block while the next one is computed


def take(blocks: Iterator[Tensor], samples: int) -> Iterator[Tensor]:
    """Ends consecutive blocks [..., samples] after `samples`."""
    for block in blocks:
        taken = min(samples, block.shape[-1])
        samples -= taken
        if taken:
            yield block[..., :taken]
        del block  # see `skip`


def mean_of(passes: Sequence[Iterator[Tensor]], weights: Sequence[Sequence[float]]) -> Iterator[Tensor]:
    """Averages several passes over one song in step, so that few blocks wait for others.

    Args:
        passes: each yields consecutive blocks [sources, 2, samples]. Blocks may differ in length; the total length of
            all passes is equal.
        weights: [passes][sources], of any scale; each source needs a weight above 0.

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
