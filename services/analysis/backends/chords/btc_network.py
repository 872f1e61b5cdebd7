"""The network of BTC, with the names of its published checkpoints.

Park, Choi, Jeon, Kim and Park, "A Bi-Directional Transformer for Musical Chord Recognition", ISMIR 2019;
https://github.com/jayg996/BTC-ISMIR19 (MIT).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

BINS = 144
WIDTH = 128
HEADS = 4
LAYERS = 8
CLASSES = 170
LONGEST_TIMESCALE = 10_000


class BtcNetwork(nn.Module):
    """Scores of all classes for windows of a normalised spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn_layers = _Encoder()
        self.output_layer = nn.ModuleDict({"output_projection": nn.Linear(WIDTH, CLASSES)})

    def forward(self, spectrum: Tensor) -> Tensor:
        """Logits [windows, frames, 170] for `spectrum` [windows, frames, 144]."""
        logits: Tensor = self.output_layer["output_projection"](self.self_attn_layers(spectrum))
        return logits


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding_proj = nn.Linear(BINS, WIDTH, bias=False)
        self.self_attn_layers = nn.ModuleList(_BothDirections() for _ in range(LAYERS))
        self.layer_norm = _LayerNorm()

    def forward(self, spectrum: Tensor) -> Tensor:
        x = self.embedding_proj(spectrum)
        x = x + _timing(x.shape[1]).to(x.device)
        for layer in self.self_attn_layers:
            x = layer(x)
        normalised: Tensor = self.layer_norm(x)
        return normalised


class _BothDirections(nn.Module):
    """Two blocks in parallel: one attends to the past, one to the future."""

    def __init__(self) -> None:
        super().__init__()
        self.attn_block = _Block()
        self.backward_attn_block = _Block()
        self.linear = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        both = torch.cat([self.attn_block(x, past), self.backward_attn_block(x, past.T)], dim=-1)
        joined: Tensor = self.linear(both)
        return joined


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer_norm_mha = _LayerNorm()
        self.multi_head_attention = _Attention()
        self.layer_norm_ffn = _LayerNorm()
        self.positionwise_convolution = _Convolutions()

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        x = x + self.multi_head_attention(self.layer_norm_mha(x), heard)
        out: Tensor = x + self.positionwise_convolution(self.layer_norm_ffn(x))
        return out


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name in ("query", "key", "value", "output"):
            self.add_module(f"{name}_linear", nn.Linear(WIDTH, WIDTH, bias=False))

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        query, key, value = (
            self.get_submodule(f"{name}_linear")(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value, heard)
        out: Tensor = self.get_submodule("output_linear")(attended.transpose(1, 2).flatten(-2))
        return out


class _Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"conv": nn.Conv1d(WIDTH, WIDTH, 3, padding=1)}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            x = functional.relu(layer["conv"](x))
        return x.transpose(1, 2)


class _LayerNorm(nn.Module):
    """Differs from torch's: divides by the unbiased standard deviation plus epsilon."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))
        self.beta = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(x, dim=-1, keepdim=True)
        return self.gamma * (x - mean) / (deviation + 1e-6) + self.beta


def _timing(frames: int) -> Tensor:
    """Sines, then cosines, of the position at geometrically spaced timescales, as in tensor2tensor: [frames, 128]."""
    rates = torch.exp(torch.linspace(0, -math.log(LONGEST_TIMESCALE), WIDTH // 2))
    angles = torch.arange(frames)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
