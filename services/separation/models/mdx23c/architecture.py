"""The sizes of a TFC-TDF network, and the tensors that its checkpoints have. Loads no network."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

Shape = tuple[int, ...]

MAX_SCALES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The sizes of a network, named as in the published configurations.

    Args:
        stems: number of stems that it estimates.
        num_channels: channels of the first scale.
        growth: channels that each further scale adds.
        num_scales: number of times that the spectrum is made smaller.
        scale: factors in time and in frequency by which each scale is smaller.
        num_blocks_per_scale: TFC-TDF blocks at each scale.
        bottleneck_factor: number by which the linear layers divide the frequencies.
        num_subbands: number of sub-bands.
        norm: `BatchNorm`, `InstanceNorm`, `GroupNormN` with N groups, or None for none.
        act: `gelu`, `relu`, or `eluA` with the slope A.
        dim_f: number of bins that are used.
        n_fft: samples in a frame.
        hop_length: samples between the starts of neighbouring frames.
        audio_channels: channels of the mix.
    """

    stems: int
    num_channels: int
    growth: int
    num_scales: int
    scale: tuple[int, int]
    num_blocks_per_scale: int
    bottleneck_factor: int
    num_subbands: int
    norm: str | None
    act: str
    dim_f: int
    n_fft: int
    hop_length: int
    audio_channels: int = 2

    def __post_init__(self) -> None:
        """Checks that the sizes fit each other.

        Raises:
            ValueError: they do not; the message names the keys.
        """
        if self.num_scales > MAX_SCALES:
            raise ValueError(f"num_scales must be at most {MAX_SCALES}, not {self.num_scales}")
        if self.dim_f > self.n_fft // 2 + 1:
            raise ValueError(f"dim_f must be at most n_fft / 2 + 1 = {self.n_fft // 2 + 1}, not {self.dim_f}")
        smallest = self.num_subbands * self.scale[1] ** self.num_scales
        if self.dim_f % smallest:
            raise ValueError(
                f"dim_f must be a multiple of num_subbands * scale[1] ** num_scales = {smallest}, not {self.dim_f}"
            )
        if self.bottleneck_factor > self.heights[-1]:
            raise ValueError(f"bottleneck_factor must be at most {self.heights[-1]}, the bins of the smallest scale")
        if self.norm not in (None, "BatchNorm", "InstanceNorm") and not self.norm_groups:
            raise ValueError(f"norm must be BatchNorm, InstanceNorm, GroupNormN or null, not {self.norm}")
        if self.norm_groups and any(width % self.norm_groups for width in self.widths):
            raise ValueError(f"norm: {self.norm} does not divide the channels {self.widths}")
        if self.act not in ("gelu", "relu") and not self.slope:
            raise ValueError(f"act must be gelu, relu or eluA with a slope A above 0, not {self.act}")

    @property
    def frame_multiple(self) -> int:
        """Segments have a multiple of this number of frames."""
        return int(self.scale[0] ** self.num_scales)

    @property
    def parts(self) -> int:
        """Channels of the mix's spectrum, when its sub-bands are channels."""
        return 2 * self.audio_channels * self.num_subbands

    @property
    def widths(self) -> list[int]:
        """Channels of each scale; the last is that of the bottleneck."""
        return [self.num_channels + self.growth * level for level in range(self.num_scales + 1)]

    @property
    def heights(self) -> list[int]:
        """Bins of each scale."""
        return [self.dim_f // self.num_subbands // self.scale[1] ** level for level in range(self.num_scales + 1)]

    @property
    def norm_groups(self) -> int:
        """The groups of `GroupNormN`; 0 with another normalisation."""
        groups = (self.norm or "").removeprefix("GroupNorm")
        return int(groups) if groups != self.norm and groups.isdecimal() else 0

    @property
    def slope(self) -> float:
        """The slope of `eluA`; 0.0 with another activation."""
        try:
            return float(self.act.removeprefix("elu")) if self.act.startswith("elu") else 0.0
        except ValueError:
            return 0.0

    def shapes(self) -> dict[str, Shape]:
        """The shapes of the tensors in a checkpoint, by name."""
        first, last = self.widths[0], self.widths[-1]
        shapes: dict[str, Shape] = {"first_conv.weight": (first, self.parts, 1, 1)}
        for level, (width, wider) in enumerate(pairwise(self.widths)):
            down, up = f"encoder_blocks.{level}", f"decoder_blocks.{self.num_scales - 1 - level}"
            shapes |= self._blocks(f"{down}.tfc_tdf", level, width)
            shapes |= self._layer(f"{down}.downscale.conv", 0, width, (wider, width, *self.scale))
            shapes |= self._layer(f"{up}.upscale.conv", 0, wider, (wider, width, *self.scale))
            shapes |= self._blocks(f"{up}.tfc_tdf", level, 2 * width)
        shapes |= self._blocks("bottleneck_block", self.num_scales, last)
        shapes["final_conv.0.weight"] = (first, first + self.parts, 1, 1)
        shapes["final_conv.2.weight"] = (self.stems * self.parts, first, 1, 1)
        return shapes

    def gflop(self) -> float:
        """What a network computes for a frame: twice the multiplications of its layers."""
        total = 0.0
        for name, shape in self.shapes().items():
            level = self._level(name)
            frames = self.scale[0] ** -level
            # A linear layer takes all bins of each channel, a convolution all channels of each bin.
            times = self.heights[level] if len(shape) == 4 else self.widths[level]
            total += 2e-9 * frames * times * prod(shape) if len(shape) in (2, 4) else 0.0
        return total

    def _level(self, name: str) -> int:
        """The scale on which a tensor is used; that of a layer between two scales is the smaller one."""
        part, *rest = name.split(".")
        if part == "bottleneck_block":
            return self.num_scales
        if part not in ("encoder_blocks", "decoder_blocks"):
            return 0
        level = int(rest[0]) if part == "encoder_blocks" else self.num_scales - 1 - int(rest[0])
        return level + (rest[1] in ("downscale", "upscale"))

    def _blocks(self, prefix: str, level: int, inputs: int) -> dict[str, Shape]:
        width, height = self.widths[level], self.heights[level]
        inner = height // self.bottleneck_factor
        shapes: dict[str, Shape] = {}
        for number, before in enumerate([inputs, *[width] * (self.num_blocks_per_scale - 1)]):
            block = f"{prefix}.blocks.{number}"
            shapes |= self._layer(f"{block}.tfc1", 0, before, (width, before, 3, 3))
            shapes |= self._layer(f"{block}.tdf", 0, width, (inner, height))
            shapes |= self._layer(f"{block}.tdf", 3, width, (height, inner))
            shapes |= self._layer(f"{block}.tfc2", 0, width, (width, width, 3, 3))
            shapes[f"{block}.shortcut.weight"] = (width, before, 1, 1)
        return shapes

    def _layer(self, prefix: str, number: int, channels: int, weight: Shape) -> dict[str, Shape]:
        """A normalisation with the number `number` and the layer after the activation that follows it."""
        return dict(self._norm(f"{prefix}.{number}", channels)) | {f"{prefix}.{number + 2}.weight": weight}

    def _norm(self, prefix: str, channels: int) -> Iterator[tuple[str, Shape]]:
        if self.norm is None:
            return
        yield f"{prefix}.weight", (channels,)
        yield f"{prefix}.bias", (channels,)
        if self.norm == "BatchNorm":
            yield f"{prefix}.running_mean", (channels,)
            yield f"{prefix}.running_var", (channels,)
            yield f"{prefix}.num_batches_tracked", ()
