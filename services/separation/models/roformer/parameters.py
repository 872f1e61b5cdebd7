"""The names and shapes of the tensors in the checkpoint of a RoFormer, without loading torch."""

from services.separation.models.folders.shapes import Shape
from services.separation.models.roformer.config import SHARED_BIASES, RoFormerConfig


def parameters(config: RoFormerConfig) -> dict[str, Shape]:
    """The tensors that the checkpoint of a network must have, by name."""
    found: dict[str, Shape] = {}
    for block in range(config.depth):
        parts = [depth for depth in config.depths if depth]
        for part, depth in enumerate(parts):
            linear = bool(config.depths[0]) and part == 0
            name = f"layers.{block}.{part}"
            for layer in range(depth):
                attention = _linear_attention(config) if linear else _attention(config)
                found |= {f"{name}.layers.{layer}.0.{key}": shape for key, shape in attention.items()}
                found |= {f"{name}.layers.{layer}.1.{key}": shape for key, shape in _feed_forward(config).items()}
            if config.kind == "mel":
                found[f"{name}.norm.gamma"] = (config.dim,)
    if config.kind == "bs":
        found["final_norm.gamma"] = (config.dim,)
    if config.shared_bias:
        found |= dict(zip(SHARED_BIASES, [(3 * config.heads * config.dim_head,), (config.dim,)], strict=True))
    for band, bins in enumerate(config.bands):
        width = 2 * config.channels * len(bins)
        found[f"band_split.to_features.{band}.0.gamma"] = (width,)
        found |= _linear(f"band_split.to_features.{band}.1", width, config.dim)
        for stem in range(config.stems):
            widths = [config.dim, *[config.mask_dim] * (config.mask_layers - 1), 2 * width]
            for layer in range(config.mask_layers):
                # A tanh lies between two layers.
                name = f"mask_estimators.{stem}.to_freqs.{band}.0.{2 * layer}"
                found |= _linear(name, widths[layer], widths[layer + 1])
    return found


def is_copy(name: str) -> bool:
    """Whether a tensor is a layer's copy of a shared bias, which checkpoints may also have."""
    return name.startswith("layers.") and name.endswith((".to_qkv.bias", ".to_out.0.bias"))


def _attention(config: RoFormerConfig) -> dict[str, Shape]:
    inner = config.heads * config.dim_head
    return {
        "rotary_embed.freqs": (config.dim_head // 2,),
        "norm.gamma": (config.dim,),
        "to_qkv.weight": (3 * inner, config.dim),
        **_linear("to_gates", config.dim, config.heads),
        "to_out.0.weight": (config.dim, inner),
    }


def _linear_attention(config: RoFormerConfig) -> dict[str, Shape]:
    inner = config.heads * config.dim_head
    return {
        "norm.gamma": (config.dim,),
        "to_qkv.0.weight": (3 * inner, config.dim),
        "temperature": (config.heads, 1, 1),
        "to_out.1.weight": (config.dim, inner),
    }


def _feed_forward(config: RoFormerConfig) -> dict[str, Shape]:
    inner = 4 * config.dim
    return {
        "net.0.gamma": (config.dim,),
        **_linear("net.1", config.dim, inner),
        **_linear("net.4", inner, config.dim),
    }


def _linear(name: str, before: int, after: int) -> dict[str, Shape]:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}
