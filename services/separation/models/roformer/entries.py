"""Recognises BS-RoFormer and Mel-Band RoFormer, without loading torch."""

from math import prod

from services.separation.models.folders.checks import compare_shapes, residual_of, stems_of
from services.separation.models.folders.cost import cost_of
from services.separation.models.folders.folder import Description, ModelFolder
from services.separation.models.folders.inference import inference_config
from services.separation.models.roformer.config import RoFormerConfig, kind_of, network_config
from services.separation.models.roformer.parameters import is_copy, parameters

FAMILY = "roformer"
VERSION = "roformer-1"


def describe(folder: ModelFolder) -> Description | None:
    """Describes a model in a folder; None if it is no RoFormer.

    Raises:
        FolderError: it is one, but its configuration or checkpoint cannot be used; the message says what differs.
    """
    kind = kind_of(folder)
    if kind is None:
        return None
    config, inference = network_config(folder, kind), inference_config(folder)
    stems = stems_of(folder, config.stems)
    if len(stems) == 1:
        stems = (*stems, residual_of(folder, stems[0]))
    expected = parameters(config)
    copies = {name: shape for name, shape in folder.shapes.items() if is_copy(name)} if config.shared_bias else {}
    compare_shapes(folder, expected | copies)
    return Description(
        family=FAMILY,
        stems=stems,
        sample_rate_hz=inference.sample_rate_hz,
        version=VERSION,
        cost=cost_of(gflop(config, inference.chunk, inference.sample_rate_hz)),
        overlap=inference.overlap,
    )


def gflop(config: RoFormerConfig, chunk: int, sample_rate_hz: int) -> float:
    """What a network computes for a second of music, without overlap: twice the multiplications of all layers."""
    frames, bands = chunk // config.hop + 1, len(config.bands)
    inner = config.heads * config.dim_head
    layers = sum(config.depths) * config.depth
    per_position = layers * (4 * config.dim * inner + 8 * config.dim * config.dim)
    per_position += config.depth * 2 * inner * (config.depths[1] * frames + config.depths[2] * bands)
    per_frame = sum(
        prod(shape)
        for name, shape in parameters(config).items()
        if name.startswith(("band_split", "mask_estimators")) and len(shape) == 2
    )
    return 2e-9 * frames * (bands * per_position + per_frame) * (3 - config.channels) / (chunk / sample_rate_hz)
