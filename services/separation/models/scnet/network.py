"""SCNet: a sparse compression network, with the tensor names of the published checkpoints.

After W. Tong, J. Zhu, J. Chen, S. Kang, T. Jiang, Y. Li, Z. Wu, H. Meng: "SCNet: Sparse Compression Network for Music
Source Separation", ICASSP 2024, arXiv 2401.13276. The encoder compresses high frequencies more than low ones; a
dual-path LSTM works on what remains, along frequencies and along time, where every other layer sees the Fourier
transform of the frames instead. The masked variant (ZFTurbo, Music-Source-Separation-Training 1.0.16) knows the number
of each bin and estimates masks of the mix.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu, pad

from services.separation.models.scnet.architecture import MASK_WIDTH, Architecture, heights_of


class Network(nn.Module):
    """Estimates the spectra of the stems from that of the mix.

    `forward(mix [batch, 2 * channels, nfft / 2 + 1, frames])` returns [batch, stems * 2 * channels, nfft / 2 + 1,
    frames]; `frames` is even.
    """

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        bands = tuple(zip(sizes.band_kernel, sizes.band_stride, strict=True))
        outputs = sizes.outputs
        self.encoder = nn.ModuleList(
            Encoder(before, after, bands, sizes) for before, after in zip(sizes.dims[:-1], sizes.dims[1:], strict=True)
        )
        self.separation_net = nn.ModuleDict(
            {
                "dp_modules": nn.ModuleList(
                    DualPath(sizes.dims[-1] * (1 + number % 2), sizes.expand) for number in range(sizes.num_dplayer)
                )
            }
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(Fusion(before), Upsampling(before, after, bands))
            for before, after in zip(sizes.dims[:0:-1], outputs[::-1], strict=True)
        )
        self._masked = sizes.masked
        if sizes.masked:
            self.pos_embed_f = nn.Parameter(torch.zeros(1, sizes.dims[0], sizes.nfft // 2 + 1, 1))
            parts = outputs[0]
            self.mask_layer = nn.Sequential(
                nn.Conv2d(parts, MASK_WIDTH, 3, padding=1), nn.GELU(), nn.Conv2d(MASK_WIDTH, parts, 1), nn.Tanh()
            )

    def forward(self, mix: Tensor) -> Tensor:
        """See the class."""
        x = mix + self.pos_embed_f if self._masked else mix
        skips = []
        for encoder in self.encoder:
            x, *skip = encoder(x)
            skips.append(skip)
        for number, layer in enumerate(cast(nn.ModuleList, self.separation_net["dp_modules"])):
            x = layer(x)
            x = frames_of(x) if number % 2 else frequencies_of(x)
        for stage in self.decoder:
            fusion, upsampling = cast(nn.Sequential, stage)
            skip, heights, original = skips.pop()
            x = upsampling(fusion(x + skip), heights, original)
        return times(self.mask_layer(x), mix) if self._masked else x


def frequencies_of(x: Tensor) -> Tensor:
    """The Fourier transform along the frames, [.., channels, bins, frames] to [.., 2 * channels, bins, frames/2 + 1].

    The real parts come first.
    """
    spectrum = torch.fft.rfft(x.float(), norm="ortho")  # it takes no half precision
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


def frames_of(x: Tensor) -> Tensor:
    """The inverse of `frequencies_of`."""
    frames: Tensor = torch.fft.irfft(torch.complex(*x.float().chunk(2, dim=1)), norm="ortho")
    return frames


def times(mask: Tensor, mix: Tensor) -> Tensor:
    """The product of complex masks [batch, stems * 2 * channels, bins, frames] and a mix [batch, 2 * channels, ...]."""
    batch, parts, bins, frames = mix.shape
    real, imaginary = mask.view(batch, -1, parts // 2, 2, bins, frames).unbind(dim=3)
    a, b = mix.view(batch, 1, parts // 2, 2, bins, frames).unbind(dim=3)
    return torch.stack([real * a - imaginary * b, real * b + imaginary * a], dim=3).view(mask.shape)


class Encoder(nn.Module):
    """Makes the spectrum smaller, each band by its own factor.

    `forward(x [batch, inputs, bins, frames])` returns the next scale [batch, outputs, fewer bins, frames], the same
    before its last convolution, the bands' new heights and their old heights.
    """

    def __init__(self, inputs: int, outputs: int, bands: Sequence[tuple[int, int]], sizes: Architecture) -> None:
        super().__init__()
        self._shares = sizes.band_SR
        self._bands = bands
        self.SDlayer = nn.ModuleDict(
            {"convs": nn.ModuleList(nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1)) for kernel, stride in bands)}
        )
        self.conv_modules = nn.ModuleList(
            Convolutions(outputs, depth, sizes.compress, sizes.conv_kernel) for depth in sizes.conv_depths
        )
        self.globalconv = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[int], list[int]]:
        """See the class."""
        original = heights_of(x.shape[2], self._shares)
        parts = []
        layers = zip(self._bands, cast(nn.ModuleList, self.SDlayer["convs"]), self.conv_modules, strict=True)
        for band, ((kernel, stride), smaller, convolutions) in zip(
            torch.split(x, original, dim=2), layers, strict=True
        ):
            missing = kernel - 1 if stride == 1 else -band.shape[2] % stride
            band = smaller(pad(band, (0, 0, missing // 2, missing - missing // 2)))
            parts.append(gelu(convolutions(band)))
        joined = torch.cat(parts, dim=2)
        return self.globalconv(joined), joined, [part.shape[2] for part in parts], original


class Convolutions(nn.Module):
    """Convolutions along time, for each bin of [batch, channels, bins, frames] separately."""

    def __init__(self, channels: int, depth: int, compress: float, kernel: int) -> None:
        super().__init__()
        inner, padding = int(channels / compress), kernel // 2
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, channels),
                nn.Conv1d(channels, 2 * inner, kernel, padding=padding),
                nn.GLU(dim=1),
                nn.Conv1d(inner, inner, kernel, padding=padding, groups=inner),
                nn.GroupNorm(1, inner),
                nn.SiLU(),
                nn.Conv1d(inner, channels, 1),
            )
            for _ in range(abs(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        batch, channels, bins, frames = x.shape
        rows = x.transpose(1, 2).reshape(-1, channels, frames)
        for layer in self.layers:
            rows = rows + layer(rows)
        return rows.view(batch, bins, channels, frames).transpose(1, 2)


class DualPath(nn.Module):
    """An LSTM along the bins of [batch, channels, bins, frames], then one along its frames."""

    def __init__(self, channels: int, expand: int) -> None:
        super().__init__()
        self.lstm_layers = nn.ModuleList(
            nn.LSTM(channels, channels * expand, bidirectional=True, batch_first=True) for _ in range(2)
        )
        self.linear_layers = nn.ModuleList(nn.Linear(2 * channels * expand, channels) for _ in range(2))
        self.norm_layers = nn.ModuleList(nn.GroupNorm(1, channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        batch, channels, bins, frames = x.shape
        along_bins = self.norm_layers[0](x).permute(0, 3, 2, 1).reshape(-1, bins, channels)
        x = x + self._run(0, along_bins).view(batch, frames, bins, channels).permute(0, 3, 2, 1)
        along_frames = self.norm_layers[1](x).permute(0, 2, 3, 1).reshape(-1, frames, channels)
        return x + self._run(1, along_frames).view(batch, bins, frames, channels).permute(0, 3, 1, 2)

    def _run(self, number: int, sequences: Tensor) -> Tensor:
        result: Tensor = self.linear_layers[number](self.lstm_layers[number](sequences)[0])
        return result


class Fusion(nn.Module):
    """A gated convolution of [batch, channels, bins, frames]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return glu(self.conv(torch.cat([x, x], dim=1)), dim=1)


class Upsampling(nn.Module):
    """Undoes what an encoder's scale did to the bands' heights: [batch, inputs, fewer bins, frames] to [.., bins, ..].

    `forward(x, heights, original)`: the bands' heights in `x`, and in the result.
    """

    def __init__(self, inputs: int, outputs: int, bands: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.convtrs = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, (kernel, 1), (stride, 1)) for kernel, stride in bands
        )

    def forward(self, x: Tensor, heights: list[int], original: list[int]) -> Tensor:
        """See the class."""
        parts = []
        for band, height, larger in zip(torch.split(x, heights, dim=2), original, self.convtrs, strict=True):
            wide = larger(band)
            first = (wide.shape[2] - height) // 2
            parts.append(wide[:, :, first : first + height])
        return torch.cat(parts, dim=2)
