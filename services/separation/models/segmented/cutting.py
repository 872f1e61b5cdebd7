"""How songs are cut into segments and joined again. Networks are used as their authors use them."""

from collections.abc import Sequence
from random import Random
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from services.common.samples import Samples
from services.separation.models.base import Options
from services.separation.models.segmented.network import Network
from services.separation.models.segmented.segments import (
    Level,
    Segment,
    centre,
    level_of,
    segments_of,
    stride_of,
    triangle,
    window,
)

RAW = Level(0.0, 1.0)
"""The level of a mix that a network gets as it is."""


class Cut(Protocol):
    """The cut of one song.

    Args:
        segments: the segments in order.
        stride: samples between the starts of neighbouring ones.
        lead: samples by which the first one starts before the mix.
    """

    segments: Sequence[Segment]
    stride: int
    lead: int

    def window(self, mix: Samples, segment: Segment, samples: int, level: Level) -> Tensor:
        """The input of the network for a segment, float32 [2, samples]."""
        ...

    def centre(self, output: Tensor, segment: Segment) -> Tensor:
        """The part of an output of the network that belongs to its segment."""
        ...

    def weights(self, number: int) -> Tensor:
        """The weights [samples] of a segment where it overlaps with others, by its place in `segments`."""
        ...


class Cutting(Protocol):
    """A way to cut songs."""

    def level(self, mix: Samples) -> Level:
        """The level that a mix has for the network."""
        ...

    def cuts(
        self, network: Network, samples: int, options: Options, sample_rate_hz: int, random: Random
    ) -> Sequence[Cut]:
        """Cuts a song once for each pass of the network over it; the passes are averaged.

        Args:
            network: computes the segments.
            samples: length of the mix.
            options: see `Options`.
            sample_rate_hz: rate of the mix.
            random: draws time shifts.
        """
        ...


class TriangleCut:
    """Demucs' cut: segments are widened by what surrounds them, and cross-faded by triangles.

    Args:
        network: computes the segments.
        samples: length of the mix.
        overlap: overlap of neighbouring segments, as a fraction of a segment.
        lead: see `Cut`.
    """

    def __init__(self, network: Network, samples: int, overlap: float, lead: int) -> None:
        self.lead = lead
        self.stride = stride_of(network.segment_samples, overlap)
        self.segments: Sequence[Segment] = segments_of(-lead, samples, network.segment_samples, self.stride)
        self._triangle = triangle(network.segment_samples)

    def window(self, mix: Samples, segment: Segment, samples: int, level: Level) -> Tensor:
        """See `Cut.window`."""
        return window(mix, segment, samples, level)

    def centre(self, output: Tensor, segment: Segment) -> Tensor:
        """See `Cut.centre`."""
        return centre(output, segment.samples)

    def weights(self, number: int) -> Tensor:
        """See `Cut.weights`."""
        return self._triangle[: self.segments[number].samples]


class DemucsCutting:
    """The cutting of demucs, with its level and its time shifts.

    Each shift starts the song up to half a second earlier, which moves the borders of all segments. Like demucs, this
    draws the difference to half a second.
    """

    def level(self, mix: Samples) -> Level:
        """The mean and the deviation of the mix."""
        return level_of(mix)

    def cuts(
        self, network: Network, samples: int, options: Options, sample_rate_hz: int, random: Random
    ) -> Sequence[Cut]:
        """See `Cutting.cuts`. There is a cut for each time shift."""
        most = sample_rate_hz // 2
        leads = [most - random.randint(0, most) for _ in range(options.shifts)] or [0]
        return [TriangleCut(network, samples, options.overlap, lead) for lead in leads]


DEMUCS = DemucsCutting()


class FadedCut:
    """The cut of R. Solovyev's Music-Source-Separation-Training (`demix`).

    The mix is mirrored at both ends, so that all of it is covered by as many segments. Segments at the end are mirrored
    as well, or filled with silence if less than half of them is left. They are faded linearly over a tenth. A song
    too short to be mirrored starts and ends without a fade. The results equal those of `demix`, which also computes
    segments that are nothing but mirrored.

    Args:
        network: computes the segments.
        samples: length of the mix.
        overlap: overlap of neighbouring segments, as a fraction of a segment.
    """

    def __init__(self, network: Network, samples: int, overlap: float) -> None:
        size = network.segment_samples
        self.stride = max(1, int((1 - overlap) * size + 1e-6))  # 1 - (1 - 1/3) is less than 1/3
        border = size - self.stride
        self.lead = border if samples > 2 * border else 0
        self._samples = samples
        self._size = size
        self._end = samples + self.lead
        fade = min(size // 10, border)
        self._fade = fade if fade > 1 else 0  # one sample would have no weight
        starts = range(-self.lead, samples, self.stride)
        self.segments: Sequence[Segment] = [Segment(start, min(size, self._end - start)) for start in starts]

    def window(self, mix: Samples, segment: Segment, samples: int, level: Level) -> Tensor:
        """See `Cut.window`."""
        places = np.arange(segment.start, segment.start + segment.samples)
        last = self._samples - 1
        wide = np.zeros((2, samples), np.float32)
        inside = wide[:, : segment.samples]
        np.subtract(mix[:, last - np.abs(last - np.abs(places))], np.float32(level.mean), out=inside)
        inside /= np.float32(level.deviation)
        if samples // 2 < segment.samples < samples:
            missing = samples - segment.samples
            wide[:, segment.samples :] = wide[:, segment.samples - missing - 1 : segment.samples - 1][:, ::-1]
        return torch.from_numpy(wide)

    def centre(self, output: Tensor, segment: Segment) -> Tensor:
        """See `Cut.centre`."""
        return output[..., : segment.samples]

    def weights(self, number: int) -> Tensor:
        """See `Cut.weights`."""
        weights = torch.ones(self._size)
        ramp = torch.linspace(0, 1, self._fade)
        if self.lead or number > 0:
            weights[: self._fade] = ramp
        if self.lead or number < len(self.segments) - 1:
            weights[self._size - self._fade :] = ramp.flip(0)
        return weights[: self.segments[number].samples]


class FadedCutting:
    """The cutting of Music-Source-Separation-Training. It has no time shifts.

    Args:
        normalize: whether networks get the mix with a mean of 0 and a deviation of 1.
    """

    def __init__(self, normalize: bool = False) -> None:
        self._normalize = normalize

    def level(self, mix: Samples) -> Level:
        """The mean and the deviation of the mix, or `RAW`."""
        return level_of(mix) if self._normalize else RAW

    def cuts(
        self, network: Network, samples: int, options: Options, _sample_rate_hz: int, _random: Random
    ) -> Sequence[Cut]:
        """See `Cutting.cuts`. There is one."""
        return [FadedCut(network, samples, options.overlap)]
