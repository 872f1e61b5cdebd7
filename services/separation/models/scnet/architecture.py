"""The sizes of an SCNet, and the tensors that its checkpoints have. Loads no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

Shape = tuple[int, ...]

MASK_WIDTH = 64
"""Channels inside of the layer that estimates masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The sizes of a network, named as in the published configurations.

    Args:
        stems: number of stems that it estimates.
        dims: channels of the input and of each scale; the first is twice the number of audio channels.
        band_SR: shares of the low, the middle and the high band in the frequencies; together 1.
        band_stride: factors by which each scale makes the bands smaller.
        band_kernel: sizes of the convolutions that do so.
        conv_depths: layers of the convolution module of each band.
        compress: number by which the convolution modules divide the channels.
        conv_kernel: size of their convolutions along time, odd.
        num_dplayer: number of dual-path layers, even.
        expand: size of the LSTMs in units of their inputs.
        nfft: samples in a frame.
        hop_size: samples between the starts of neighbouring frames.
        win_size: samples of a frame that are not zero.
        normalized: divide the spectrum by the square root of `nfft`.
        masked: whether it estimates masks.
        audio_channels: channels of the mix.
    """

    stems: int
    dims: tuple[int, ...] = (4, 32, 64, 128)
    band_SR: tuple[float, float, float] = (0.175, 0.392, 0.433)  # noqa: N815
    band_stride: tuple[int, int, int] = (1, 4, 16)
    band_kernel: tuple[int, int, int] = (3, 4, 16)
    conv_depths: tuple[int, int, int] = (3, 2, 1)
    compress: float = 4
    conv_kernel: int = 3
    num_dplayer: int = 6
    expand: int = 1
    nfft: int = 4096
    hop_size: int = 1024
    win_size: int = 4096
    normalized: bool = True
    masked: bool = False
    audio_channels: int = 2

    def __post_init__(self) -> None:
        """Checks that the sizes fit each other.

        Raises:
            ValueError: they do not; the message names the keys.
        """
        if len(self.dims) < 2 or self.dims[0] != 2 * self.audio_channels:
            raise ValueError(f"dims must begin with 2 * audio_channels = {2 * self.audio_channels} and go on")
        if self.conv_kernel % 2 == 0:
            raise ValueError(f"conv_kernel must be odd, not {self.conv_kernel}")
        if self.num_dplayer % 2:
            raise ValueError(f"num_dplayer must be even, not {self.num_dplayer}")
        for stride, kernel in zip(self.band_stride, self.band_kernel, strict=True):
            if kernel < stride:
                raise ValueError(f"band_kernel must not be smaller than band_stride: {kernel} < {stride}")
        if not 0 < self.win_size <= self.nfft:
            raise ValueError(f"win_size must be at most nfft = {self.nfft}, not {self.win_size}")

    @property
    def outputs(self) -> list[int]:
        """Channels that the decoder gives at each scale, the largest scale first."""
        return [self.dims[0] * self.stems, *self.dims[1:-1]]

    def shapes(self) -> dict[str, Shape]:
        """The shapes of the tensors in a checkpoint, by name."""
        shapes: dict[str, Shape] = {}
        last = len(self.dims) - 2
        for level, (before, after) in enumerate(pairwise(self.dims)):
            down, up = f"encoder.{level}", f"decoder.{last - level}"
            for band, (kernel, depth) in enumerate(zip(self.band_kernel, self.conv_depths, strict=True)):
                shapes |= _layer(f"{down}.SDlayer.convs.{band}", (after, before, kernel, 1))
                shapes |= self._convolutions(f"{down}.conv_modules.{band}", after, abs(depth))
                larger, outputs = f"{up}.1.convtrs.{band}", self.outputs[level]
                shapes |= _layer(larger, (after, outputs, kernel, 1), biases=outputs)
            shapes |= _layer(f"{down}.globalconv", (after, after, 3, 3))
            shapes |= _layer(f"{up}.0.conv", (2 * after, 2 * after, 3, 3))
        for number in range(self.num_dplayer):
            channels = self.dims[-1] * (1 + number % 2)
            shapes |= self._dual_path(f"separation_net.dp_modules.{number}", channels)
        if self.masked:
            shapes["pos_embed_f"] = (1, self.dims[0], self.nfft // 2 + 1, 1)
            shapes |= _layer("mask_layer.0", (MASK_WIDTH, self.outputs[0], 3, 3))
            shapes |= _layer("mask_layer.2", (self.outputs[0], MASK_WIDTH, 1, 1))
        return shapes

    def gflop(self) -> float:
        """What a network computes for a frame, roughly: twice the multiplications of its layers.

        The layers of each band count as if they took a third of the bins.
        """
        bins = [self.nfft // 2 + 1]
        for _ in self.dims[1:]:
            heights = zip(heights_of(bins[-1], self.band_SR), self.band_stride, strict=True)
            bins.append(sum(-(-height // stride) for height, stride in heights))
        total = 0.0
        for name, shape in self.shapes().items():
            match name.split("."):
                case ["separation_net", _, number, *_]:
                    times = bins[-1] / (1 + int(number) % 2)  # every other layer takes half of the frames
                case ["encoder", level, kind, *_]:
                    times = bins[1 + int(level)] / (1 if kind == "globalconv" else 3)
                case ["decoder", level, kind, *_]:
                    times = bins[-1 - int(level)] / (3 if kind == "1" else 1)
                case _:
                    times = 0 if name == "pos_embed_f" else bins[0]
            total += 2e-9 * prod(shape) * times if len(shape) > 1 else 0.0
        return total

    def _convolutions(self, prefix: str, channels: int, depth: int) -> dict[str, Shape]:
        inner, kernel = int(channels / self.compress), self.conv_kernel
        shapes: dict[str, Shape] = {}
        for number in range(depth):
            layer = f"{prefix}.layers.{number}"
            shapes |= _layer(f"{layer}.0", (channels,))
            shapes |= _layer(f"{layer}.1", (2 * inner, channels, kernel))
            shapes |= _layer(f"{layer}.3", (inner, 1, kernel))
            shapes |= _layer(f"{layer}.4", (inner,))
            shapes |= _layer(f"{layer}.6", (channels, inner, 1))
        return shapes

    def _dual_path(self, prefix: str, channels: int) -> dict[str, Shape]:
        hidden = channels * self.expand
        shapes: dict[str, Shape] = {}
        for path in range(2):
            for direction in ("l0", "l0_reverse"):
                lstm = f"{prefix}.lstm_layers.{path}"
                shapes[f"{lstm}.weight_ih_{direction}"] = (4 * hidden, channels)
                shapes[f"{lstm}.weight_hh_{direction}"] = (4 * hidden, hidden)
                shapes[f"{lstm}.bias_ih_{direction}"] = (4 * hidden,)
                shapes[f"{lstm}.bias_hh_{direction}"] = (4 * hidden,)
            shapes |= _layer(f"{prefix}.linear_layers.{path}", (channels, 2 * hidden))
            shapes |= _layer(f"{prefix}.norm_layers.{path}", (channels,))
        return shapes


def _layer(prefix: str, weight: Shape, biases: int | None = None) -> dict[str, Shape]:
    """A weight and its biases, one for each of its outputs, which are its first dimension unless `biases` is given."""
    return {f"{prefix}.weight": weight, f"{prefix}.bias": (weight[0] if biases is None else biases,)}


def heights_of(bins: int, shares: Sequence[float]) -> list[int]:
    """Splits `bins` into the low, the middle and the high band."""
    low, middle = math.ceil(bins * shares[0]), math.ceil(bins * (shares[0] + shares[1]))
    return [low, middle - low, bins - middle]
