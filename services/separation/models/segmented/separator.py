"""A separator for networks of any architecture that process a song segment by segment."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from random import Random

import torch
from torch import Tensor

from services.common.errors import PreconditionError
from services.common.samples import Samples
from services.separation.models.base import Chunk, Options, Progress, check_mix
from services.separation.models.segmented.batches import Batches
from services.separation.models.segmented.cutting import DEMUCS, Cutting
from services.separation.models.segmented.network import Network
from services.separation.models.segmented.passes import Pass, Tally
from services.separation.models.segmented.segments import mean_of

SEED = 0  # seed of the time shifts, so that the same mix gives the same stems


class SegmentedSeparator:
    """A `Separator` around one or several networks. Their stems are averaged with weights."""

    def __init__(
        self,
        stems: Sequence[str],
        sample_rate_hz: int,
        networks: Sequence[Network],
        weights: Sequence[Sequence[float]] | None = None,
        batch: int = 1,
        cutting: Cutting = DEMUCS,
    ) -> None:
        """Combines networks.

        Args:
            stems: names of the networks' sources, in order.
            sample_rate_hz: sample rate of mix and stems.
            networks: at least one network; their segments may differ in length.
            weights: [networks][stems], the weight of each network for each stem; None for equal weights.
            batch: segments in a batch, if the options do not ask for more.
            cutting: how the networks take a song: its level, its segments and their joints.

        Raises:
            PreconditionError: the weights leave a stem without a network.
        """
        self.stems = tuple(stems)
        self.sample_rate_hz = sample_rate_hz
        self._networks = tuple(networks)
        self._batch = batch
        self._cutting = cutting
        self._weights = [[1.0] * len(self.stems)] * len(self._networks) if weights is None else weights
        for stem, *given in zip(self.stems, *self._weights, strict=True):
            if not sum(given):
                raise PreconditionError(f"none of the bag's models has a weight for {stem}", "WEIGHTS_UNUSABLE")

    def separate(
        self, mix: Samples, options: Options, progress: Progress, random: Random | None = None
    ) -> Iterator[Chunk]:
        """See `Separator.separate`.

        Args:
            mix: see `Separator.separate`.
            options: see `Separator.separate`.
            progress: see `Separator.separate`.
            random: draws time shifts, network by network, as demucs does; None for the same shifts in every call.
        """
        check_mix(mix)
        return self._chunks(mix, options, progress, random or Random(SEED))

    @torch.inference_mode()  # torch leaves this mode at every yield
    def _chunks(self, mix: Samples, options: Options, progress: Progress, random: Random) -> Iterator[Chunk]:
        progress(0.0)
        if not mix.size:
            progress(1.0)
            return
        level, start = self._cutting.level(mix), 0
        options = replace(options, batch=max(options.batch, self._batch))
        passes = []
        for network in self._networks:
            cuts = self._cutting.cuts(network, mix.shape[1], options, self.sample_rate_hz, random)
            batches = Batches(network, options.batch)
            passes.append([Pass(batches, mix, level, cut) for cut in cuts])
        used = self._used(options.stems)
        for number in used:
            self._networks[number].prepare(sum(len(shift.segments) for shift in passes[number]))
        weights = torch.tensor([self._weights[number] for number in used])
        had = weights.sum(dim=0) > 0
        weights[:, ~had] = 1.0  # `mean_of` needs weights for unwanted stems, too; their output is ignored
        for block in self._average([passes[number] for number in used], weights.tolist(), progress):
            sources = level.restore(block).cpu().numpy()
            stems = {stem: source for stem, source, is_had in zip(self.stems, sources, had, strict=True) if is_had}
            yield Chunk(start, stems)
            start += sources.shape[-1]

    def _used(self, wanted: Sequence[str]) -> list[int]:
        """Indices of the networks that have a weight for a wanted stem."""
        columns = [number for number, stem in enumerate(self.stems) if not wanted or stem in wanted]
        return [number for number, weights in enumerate(self._weights) if any(weights[column] for column in columns)]

    def _average(
        self, passes: Sequence[Sequence[Pass]], weights: Sequence[Sequence[float]], progress: Progress
    ) -> Iterator[Tensor]:
        """Averages the shifts of each network, then the networks, all of them in step."""
        tally = Tally(progress, [len(shift.segments) for shifts in passes for shift in shifts])
        numbers, alike = count(), [1.0] * len(self.stems)
        networks = [
            mean_of([shift.run(tally, next(numbers)) for shift in shifts], [alike] * len(shifts)) for shifts in passes
        ]
        return mean_of(networks, weights)
