"""The layers of BS-RoFormer and Mel-Band RoFormer, with the names of tensors of the published checkpoints.

After W.-T. Lu, J.-C. Wang, Q. Kong, Y.-N. Hung: "Music source separation with band-split RoPE transformer", ICASSP
2024, and J.-C. Wang, W.-T. Lu, M. Won: "Mel-band RoFormer for music source separation", 2023, in the form of P. Wang's
package BS-RoFormer. Linear attention is that of A. El-Nouby and others: "XCiT", NeurIPS 2021.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from services.separation.models.roformer.config import RoFormerConfig

LINEAR_SCALE = 8.0  # of the similarities of linear attention


class Norm(nn.Module):
    """Brings vectors to the length sqrt(width), then scales each feature."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises [..., dim]."""
        scale: float = x.shape[-1] ** 0.5
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True).clamp_min(1e-24)) * (self.gamma * scale)


class FeedForward(nn.Module):
    """Two linear layers with GELU between them, for each position by itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # The places of the training program's dropouts stay empty, so that the names fit.
        self.net = nn.Sequential(Norm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Computes [..., dim]."""
        result: Tensor = self.net(x)
        return result


class Rotary(nn.Module):
    """Rotary positions: neighbouring features are turned as pairs, by angles that grow with the position."""

    def __init__(self, dim_head: int) -> None:
        super().__init__()
        self.freqs = nn.Parameter(10_000.0 ** -(torch.arange(0, dim_head, 2) / dim_head), requires_grad=False)

    def forward(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [positions, dim_head / 2] of the angles."""
        angles = torch.arange(positions, device=self.freqs.device)[:, None] * self.freqs.float()
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turns queries or keys [..., positions, dim_head]."""
    even, odd = x.view(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([even * cosines - odd * sines, odd * cosines + even * sines], dim=-1)
    return turned.flatten(-2)


class Attention(nn.Module):
    """Attention over positions with rotary embedding; a gate scales the output of each head."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self._heads = config.heads
        self.rotary_embed = Rotary(config.dim_head)
        self.norm = Norm(config.dim)
        self.to_qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.to_gates = nn.Linear(config.dim, config.heads)
        self.to_out = nn.Sequential(nn.Linear(inner, config.dim, bias=False))

    def forward(self, x: Tensor, biases: tuple[Tensor, Tensor] | None) -> Tensor:
        """Computes [sequences, positions, dim]; `biases` of `to_qkv` and `to_out` if the network has them."""
        x = self.norm(x)
        projected = self.to_qkv(x)
        if biases:
            projected = projected + biases[0]
        query, key, value = projected.view(*x.shape[:2], 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        cosines, sines = (part.to(x.dtype) for part in self.rotary_embed(x.shape[1]))
        out = scaled_dot_product_attention(rotate(query, cosines, sines), rotate(key, cosines, sines), value)
        out = out.transpose(1, 2) * self.to_gates(x).sigmoid().unsqueeze(-1)
        result: Tensor = self.to_out(out.flatten(2))
        return result + biases[1] if biases else result


class LinearAttention(nn.Module):
    """Attention between features over all positions, so its cost is linear in their number."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self._heads = config.heads
        self.norm = Norm(config.dim)
        self.to_qkv = nn.Sequential(nn.Linear(config.dim, 3 * inner, bias=False))
        self.temperature = nn.Parameter(torch.ones(config.heads, 1, 1))
        self.to_out = nn.Sequential(nn.Identity(), nn.Linear(inner, config.dim, bias=False))

    def forward(self, x: Tensor, _biases: tuple[Tensor, Tensor] | None) -> Tensor:
        """Computes [sequences, positions, dim]."""
        projected = self.to_qkv(self.norm(x)).view(*x.shape[:2], 3, self._heads, -1)
        query, key, value = projected.permute(2, 0, 3, 4, 1)
        query = normalize(query, dim=-1) * self.temperature.exp()
        out = scaled_dot_product_attention(query, normalize(key, dim=-1), value, scale=LINEAR_SCALE)
        result: Tensor = self.to_out(out.permute(0, 3, 1, 2).flatten(2))
        return result


class Transformer(nn.Module):
    """Layers of attention and feed-forward, each added to its input."""

    def __init__(self, config: RoFormerConfig, depth: int, linear: bool = False) -> None:
        super().__init__()
        attention = LinearAttention if linear else Attention
        self.layers = nn.ModuleList(nn.ModuleList([attention(config), FeedForward(config.dim)]) for _ in range(depth))
        self.norm = Norm(config.dim) if config.kind == "mel" else nn.Identity()

    def forward(self, x: Tensor, biases: tuple[Tensor, Tensor] | None) -> Tensor:
        """Computes [sequences, positions, dim]."""
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = attention(x, biases) + x
            x = feed_forward(x) + x
        result: Tensor = self.norm(x)
        return result


class BandSplit(nn.Module):
    """Turns the spectrum of each band into features."""

    def __init__(self, dim: int, widths: list[int]) -> None:
        super().__init__()
        self._widths = widths
        self.to_features = nn.ModuleList(nn.Sequential(Norm(width), nn.Linear(width, dim)) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Computes [batch, frames, bands, dim] from [batch, frames, sum of widths]."""
        parts = torch.split_with_sizes(x, self._widths, dim=-1)
        return torch.stack([layer(part) for layer, part in zip(self.to_features, parts, strict=True)], dim=2)


class MaskEstimator(nn.Module):
    """Turns the features of each band into its part of a stem's mask."""

    def __init__(self, config: RoFormerConfig, widths: list[int]) -> None:
        super().__init__()
        self.to_freqs = nn.ModuleList(nn.Sequential(self._layers(config, width), nn.GLU()) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Computes [batch, frames, sum of widths] from [batch, frames, bands, dim]."""
        bands = x.unbind(2)
        return torch.cat([layer(band) for layer, band in zip(self.to_freqs, bands, strict=True)], dim=-1)

    @staticmethod
    def _layers(config: RoFormerConfig, width: int) -> nn.Sequential:
        widths = [config.dim, *[config.mask_dim] * (config.mask_layers - 1), 2 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.Tanh()]
        return nn.Sequential(*layers[:-1])
