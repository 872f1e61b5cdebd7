"""The TFC-TDF U-Net, third version, with the tensor names of the published MDX23C checkpoints.

After M. Kim, J. H. Lee, S. Jung: "Sound Demixing Challenge 2023 Music Demixing Track Technical Report: TFC-TDF-UNet
v3", arXiv 2306.09382, 2023. Its blocks combine convolutions over time and frequency (TFC) with linear layers over all
frequencies of a frame (TDF). The spectrum's bins are split into sub-bands, which become channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from services.separation.models.mdx23c.architecture import Architecture

Norm = Callable[[int], nn.Module]


class Network(nn.Module):
    """Estimates the spectra of the stems from that of the mix.

    `forward(mix [batch, 2 * channels, dim_f, frames])` returns [batch, stems * 2 * channels, dim_f, frames]; `frames`
    is a multiple of `Architecture.frame_multiple`.
    """

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        norm, act = make_norm(sizes), make_activation(sizes)
        self._subbands = sizes.num_subbands
        parts, widths, heights = sizes.parts, sizes.widths, sizes.heights

        def blocks(level: int, inputs: int) -> nn.Module:
            count, factor = sizes.num_blocks_per_scale, sizes.bottleneck_factor
            return Blocks(count, inputs, widths[level], heights[level], factor, norm, act)

        def resize(kind: type[nn.Conv2d | nn.ConvTranspose2d], before: int, after: int) -> nn.Module:
            layer = kind(before, after, sizes.scale, stride=sizes.scale, bias=False)
            return nn.ModuleDict({"conv": nn.Sequential(norm(before), act, layer)})

        self.first_conv = nn.Conv2d(parts, widths[0], 1, bias=False)
        self.encoder_blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "tfc_tdf": blocks(level, widths[level]),
                    "downscale": resize(nn.Conv2d, widths[level], widths[level + 1]),
                }
            )
            for level in range(sizes.num_scales)
        )
        self.bottleneck_block = blocks(sizes.num_scales, widths[-1])
        self.decoder_blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "upscale": resize(nn.ConvTranspose2d, widths[level + 1], widths[level]),
                    "tfc_tdf": blocks(level, 2 * widths[level]),
                }
            )
            for level in reversed(range(sizes.num_scales))
        )
        self.final_conv = nn.Sequential(
            nn.Conv2d(widths[0] + parts, widths[0], 1, bias=False),
            act,
            nn.Conv2d(widths[0], sizes.stems * parts, 1, bias=False),
        )

    def forward(self, mix: Tensor) -> Tensor:
        """See the class."""
        batch, parts, bins, frames = mix.shape
        # The lowest sub-band of a part comes first; afterwards [batch, channels, frames, bins].
        mix = mix.reshape(batch, parts * self._subbands, bins // self._subbands, frames).transpose(2, 3)
        first = self.first_conv(mix)
        x, skips = first, []
        for level in self.encoder_blocks:
            skips.append(level["tfc_tdf"](x))  # type: ignore[index]
            x = level["downscale"]["conv"](skips[-1])  # type: ignore[index]
        x = self.bottleneck_block(x)
        for level in self.decoder_blocks:
            x = torch.cat([level["upscale"]["conv"](x), skips.pop()], dim=1)  # type: ignore[index]
            x = level["tfc_tdf"](x)  # type: ignore[index]
        stems: Tensor = self.final_conv(torch.cat([mix, x * first], dim=1))
        return stems.transpose(2, 3).reshape(batch, -1, bins, frames)


class Blocks(nn.Module):
    """The TFC-TDF blocks of one scale: [batch, inputs, frames, bins] to [batch, outputs, frames, bins]."""

    def __init__(
        self, count: int, inputs: int, outputs: int, bins: int, factor: int, norm: Norm, act: nn.Module
    ) -> None:
        super().__init__()

        def convolution(before: int) -> nn.Module:
            return nn.Sequential(norm(before), act, nn.Conv2d(before, outputs, 3, padding=1, bias=False))

        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "tfc1": convolution(before),
                    "tdf": nn.Sequential(
                        norm(outputs),
                        act,
                        nn.Linear(bins, bins // factor, bias=False),
                        norm(outputs),
                        act,
                        nn.Linear(bins // factor, bins, bias=False),
                    ),
                    "tfc2": convolution(outputs),
                    "shortcut": nn.Conv2d(before, outputs, 1, bias=False),
                }
            )
            for before in [inputs, *[outputs] * (count - 1)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        for block in self.blocks:
            inner = block["tfc1"](x)  # type: ignore[index]
            inner = inner + block["tdf"](inner)  # type: ignore[index]
            x = block["tfc2"](inner) + block["shortcut"](x)  # type: ignore[index]
        return x


def make_norm(sizes: Architecture) -> Norm:
    """Returns what makes a normalisation for a number of channels."""
    if sizes.norm is None:
        return lambda _channels: nn.Identity()
    if sizes.norm == "BatchNorm":
        return nn.BatchNorm2d
    if sizes.norm == "InstanceNorm":
        return lambda channels: nn.InstanceNorm2d(channels, affine=True)
    return lambda channels: nn.GroupNorm(sizes.norm_groups, channels)


def make_activation(sizes: Architecture) -> nn.Module:
    """Makes an activation."""
    if sizes.act == "gelu":
        return nn.GELU()
    return nn.ReLU() if sizes.act == "relu" else nn.ELU(sizes.slope)
