"""HTDemucs in a form that compilers for CPUs optimise well: the same weights, and the same results up to rounding.

All tensors are [batch, channels, bins, frames]; the branch of the waveform has one bin. So the convolutions of both
branches are two-dimensional, the residual layers, which process each bin separately, need no transposition, and the
transformer reads tokens in their order in memory. In OpenVINO on a CPU, this code takes 0.80 (bfloat16) and 0.88
(float32) of the time of `demucs.htdemucs.HTDemucs.forward`, which it follows.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    conv2d,
    conv_transpose2d,
    gelu,
    glu,
    group_norm,
    linear,
    pad,
    scaled_dot_product_attention,
)

SMALLEST = 1e-5
"""The constant that demucs adds to a deviation before dividing by it."""


def suits(model: Any) -> bool:
    """Whether a model has only layers that this module supports. The published ones do."""
    from demucs.hdemucs import HDecLayer, HEncLayer
    from demucs.transformer import CrossTransformerEncoderLayer, MyGroupNorm, MyTransformerEncoderLayer

    layers = [*model.encoder, *model.tencoder, *model.decoder, *model.tdecoder]
    transformer = model.crosstransformer
    return (
        model.cac
        and transformer is not None
        and transformer.emb == "sin"
        and transformer.sin_random_shift == 0
        and all(isinstance(layer, HEncLayer | HDecLayer) and not layer.empty and layer.rewrite for layer in layers)
        and all(layer.pad for layer in layers)
        and all(len(branch) == 7 for layer in layers if layer.dconv for branch in layer.dconv.layers)
        and all(
            isinstance(layer, MyTransformerEncoderLayer | CrossTransformerEncoderLayer)
            and layer.norm_first
            and not getattr(layer, "sparse", False)
            for layer in [*transformer.layers, *transformer.layers_t]
        )
        and all(norm.num_groups == 1 for norm in transformer.modules() if isinstance(norm, MyGroupNorm))
    )


def levels_of(wave: Tensor, spectrum: Tensor) -> Tensor:
    """Mean and deviation of a batch's spectra, then of its waves: [4, batch]."""
    whole = (spectrum.flatten(1), wave.flatten(1))
    return torch.stack([level for x in whole for level in (x.mean(dim=1), x.std(dim=1))])


class Core(nn.Module):
    """`htdemucs_network.Core` for models that `suits`. It shares the model's weights.

    `forward(wave [batch, 2, samples], spectrum [batch, 4, bins, frames], levels [4, batch])` returns the spectrum
    [batch, bins, frames, stems * 4] and the waveform [batch, 1, samples, stems * 2], channels last. `levels` come from
    `levels_of`, because sums of so many numbers are exact only to -90 dB in OpenVINO.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(Encoder(layer) for layer in model.encoder)
        self.tencoder = nn.ModuleList(Encoder(layer) for layer in model.tencoder)
        self.transformer = Transformer(model)
        self.decoder = nn.ModuleList(Decoder(layer) for layer in model.decoder)
        self.tdecoder = nn.ModuleList(Decoder(layer) for layer in model.tdecoder)
        self.embedding: Tensor | float = 0.0
        if model.freq_emb is not None:
            bins = torch.arange(model.freq_emb.embedding.num_embeddings)
            self.embedding = (model.freq_emb_scale * model.freq_emb(bins)).t()[None, :, :, None].detach()

    def forward(self, wave: Tensor, spectrum: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        mean, deviation, mean_t, deviation_t = levels[:, :, None, None, None]
        x = (spectrum - mean) / (SMALLEST + deviation)
        xt = (wave[:, :, None] - mean_t) / (SMALLEST + deviation_t)
        skips: list[Tensor] = []
        skips_t: list[Tensor] = []
        lengths: list[int] = []
        for number, encode in enumerate(self.encoder):
            if number < len(self.tencoder):
                lengths.append(xt.shape[-1])
                xt = self.tencoder[number](xt)
                skips_t.append(xt)
            x = encode(x)
            if number == 0:
                x = x + self.embedding
            skips.append(x)
        x, xt = self.transformer(x, xt)
        first = len(self.decoder) - len(self.tdecoder)
        for number, decode in enumerate(self.decoder):
            x = decode(x, skips.pop(), 0)
            if number >= first:
                xt = self.tdecoder[number - first](xt, skips_t.pop(), lengths.pop())
        x, xt = x * deviation + mean, xt * deviation_t + mean_t
        return x.permute(0, 2, 3, 1), xt.permute(0, 2, 3, 1)


class Encoder(nn.Module):
    """`HEncLayer`."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.stride = 1 if layer.freq else layer.stride
        self.conv = Convolution(layer.conv)
        self.norm = layer.norm1
        self.residual = _residual(layer)
        self.rewrite = Convolution(layer.rewrite)
        self.rewrite_norm = layer.norm2

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels, bins, frames] to fewer bins, or to fewer frames."""
        y = self.conv(pad(x, (0, -x.shape[-1] % self.stride)))
        return glu(self.rewrite_norm(self.rewrite(self.residual(gelu(self.norm(y))))), 1)


class Decoder(nn.Module):
    """`HDecLayer`."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.freq, self.pad, self.last = layer.freq, layer.pad, layer.last
        self.rewrite = Convolution(layer.rewrite)
        self.rewrite_norm = layer.norm1
        self.residual = _residual(layer)
        self.weight, self.bias = _plane(layer.conv_tr.weight), layer.conv_tr.bias
        self.norm = layer.norm2
        self.stride = layer.conv_tr.stride if layer.freq else (1, *layer.conv_tr.stride)

    def forward(self, x: Tensor, skip: Tensor, length: int) -> Tensor:
        """Maps [batch, channels, bins, frames] to more bins, or to `length` frames."""
        y = self.residual(glu(self.rewrite_norm(self.rewrite(x + skip)), 1))
        z = self.norm(conv_transpose2d(y, self.weight, self.bias, self.stride))
        z = z[:, :, self.pad : -self.pad] if self.freq else z[..., self.pad : self.pad + length]
        return z if self.last else gelu(z)


class Convolution(nn.Module):
    """A `Conv1d` along the frames, or a `Conv2d`."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = _plane(conv.weight), conv.bias
        plane = isinstance(conv, nn.Conv2d)
        self.stride = conv.stride if plane else (1, *conv.stride)
        self.padding = conv.padding if plane else (0, *conv.padding)
        self.dilation = conv.dilation if plane else (1, *conv.dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns [batch, channels, bins, frames]."""
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class Residual(nn.Module):
    """One layer of `DConv`, which processes each bin separately."""

    def __init__(self, layer: nn.Sequential, bins: bool) -> None:
        super().__init__()
        first, first_norm, self.activation, second, second_norm, _, scale = layer
        self.first, self.second = Convolution(first), Convolution(second)  # type: ignore[arg-type]
        self.first_norm = BinNorm(first_norm) if bins else first_norm
        self.second_norm = BinNorm(second_norm) if bins else second_norm
        self.scale: Tensor = scale.scale[:, None, None]  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns [batch, channels, bins, frames]."""
        y = self.activation(self.first_norm(self.first(x)))
        content, gate = self.second_norm(self.second(y)).chunk(2, 1)
        total: Tensor = x + self.scale * (content * torch.sigmoid(gate))
        return total


class BinNorm(nn.Module):
    """A `GroupNorm` with one group, for each bin separately."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight[:, None, None], norm.bias[:, None, None], norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns [batch, channels, bins, frames]."""
        x = x - x.mean(dim=(1, 3), keepdim=True)
        scale = torch.rsqrt(x.square().mean(dim=(1, 3), keepdim=True) + self.eps)
        normed: Tensor = x * scale * self.weight + self.bias
        return normed


class Transformer(nn.Module):
    """`CrossTransformerEncoder` with the convolutions around it; tokens are [batch, bins * frames, channels]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        transformer = model.crosstransformer
        self.samplers = (
            [
                (sampler.weight[:, :, 0], sampler.bias)
                for sampler in (
                    model.channel_upsampler,
                    model.channel_upsampler_t,
                    model.channel_downsampler,
                    model.channel_downsampler_t,
                )
            ]
            if model.bottom_channels
            else None
        )
        self.transformer = transformer
        self.layers = nn.ModuleList(TransformerLayer(layer) for layer in transformer.layers)
        self.layers_t = nn.ModuleList(TransformerLayer(layer) for layer in transformer.layers_t)

    def forward(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Takes and returns [batch, channels, bins, frames] of both branches."""
        from demucs.transformer import create_2d_sin_embedding

        own = self.transformer
        batch, channels, bins, frames = x.shape
        x, xt = _tokens(x), _tokens(xt)
        if self.samplers:
            x, xt = linear(x, *self.samplers[0]), linear(xt, *self.samplers[1])
        embedding: Any = create_2d_sin_embedding
        places = _tokens(embedding(x.shape[2], bins, frames, x.device, own.max_period))
        x = own.norm_in(x) + own.weight_pos_embed * places
        places_t = own._get_pos_embedding(xt.shape[1], 1, xt.shape[2], xt.device).transpose(0, 1)
        xt = own.norm_in_t(xt) + own.weight_pos_embed * places_t
        for number, (layer, layer_t) in enumerate(zip(self.layers, self.layers_t, strict=True)):
            if number % 2 == own.classic_parity:
                x, xt = layer(x, x), layer_t(xt, xt)
            else:
                x, xt = layer(x, xt), layer_t(xt, x)
        if self.samplers:
            x, xt = linear(x, *self.samplers[2]), linear(xt, *self.samplers[3])
        x = x.reshape(batch, bins, frames, channels).permute(0, 3, 1, 2)
        return x, xt[:, None].permute(0, 3, 1, 2)


class TransformerLayer(nn.Module):
    """`MyTransformerEncoderLayer`, or `CrossTransformerEncoderLayer`, in which one branch attends to the other."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        crossed = hasattr(layer, "cross_attn")
        self.attention = Attention(layer.cross_attn if crossed else layer.self_attn)
        self.norm = _token_norm(layer.norm1)
        self.other_norm = _token_norm(layer.norm2) if crossed else None
        self.forward_norm = _token_norm(layer.norm3 if crossed else layer.norm2)
        self.out_norm = _token_norm(layer.norm_out) if layer.norm_out else nn.Identity()
        self.gamma_1, self.gamma_2 = layer.gamma_1, layer.gamma_2
        self.linear1, self.activation, self.linear2 = layer.linear1, layer.activation, layer.linear2

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Takes the tokens of one branch, and those that they attend to."""
        queries = self.norm(x)
        x = x + self.gamma_1(self.attention(queries, self.other_norm(other) if self.other_norm else queries))
        x = x + self.gamma_2(self.linear2(self.activation(self.linear1(self.forward_norm(x)))))
        normed: Tensor = self.out_norm(x)
        return normed


class Attention(nn.Module):
    """`nn.MultiheadAttention` with separate products for queries, keys and values."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.out = attention.num_heads, attention.out_proj
        self.weights = attention.in_proj_weight.chunk(3)
        self.biases = attention.in_proj_bias.chunk(3)

    def forward(self, queries: Tensor, others: Tensor) -> Tensor:
        """Takes [batch, tokens, channels] of each."""
        q, k, v = (
            linear(tokens, weight, bias).view(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
            for tokens, weight, bias in zip((queries, others, others), self.weights, self.biases, strict=True)
        )
        answer: Tensor = self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))
        return answer


class TokenNorm(nn.Module):
    """The `MyGroupNorm` of demucs with one group: over all tokens and channels together."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns [batch, tokens, channels]."""
        normed: Tensor = group_norm(x.flatten(1)[:, None], 1, eps=self.eps).view_as(x) * self.weight + self.bias
        return normed


def _residual(layer: Any) -> nn.Module:
    return nn.Sequential(*(Residual(branch, layer.freq) for branch in (layer.dconv.layers if layer.dconv else ())))


def _token_norm(norm: Any) -> nn.Module:
    return norm if isinstance(norm, nn.LayerNorm) else TokenNorm(norm)


def _plane(weight: Tensor) -> Tensor:
    return weight if weight.dim() == 4 else weight[:, :, None]


def _tokens(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)
