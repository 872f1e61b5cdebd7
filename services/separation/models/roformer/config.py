"""The configuration of a RoFormer, in the form of the program Music-Source-Separation-Training."""

from dataclasses import dataclass
from typing import Literal

from services.separation.models.folders.checks import check_keys
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.folders.section import Section
from services.separation.models.roformer.bands import mel_bands

Kind = Literal["bs", "mel"]

BANDS = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
"""The bands of BS-RoFormer in bins of the spectrum, unless its configuration has others."""
NETWORK_KEYS = (
    "dim", "depth", "stereo", "num_stems", "time_transformer_depth", "freq_transformer_depth",
    "linear_transformer_depth", "dim_head", "heads", "mask_estimator_depth", "mlp_expansion_factor",
    "stft_n_fft", "stft_hop_length", "stft_win_length", "stft_normalized", "zero_dc", "skip_connection",
    "use_shared_bias",
)  # fmt: skip
BAND_KEYS: dict[Kind, tuple[str, ...]] = {"bs": ("freqs_per_bands",), "mel": ("num_bands", "sample_rate")}
UNUSED_KEYS = (
    "attn_dropout", "dim_freqs_in", "ff_dropout", "flash_attn", "sage_attention", "use_torch_checkpoint",
    "match_input_audio_length", "multi_stft_resolution_loss_weight", "multi_stft_resolutions_window_sizes",
    "multi_stft_hop_size", "multi_stft_normalized",
)  # fmt: skip
"""Keys that change training, or how the same numbers are computed."""
MOST = 100
"""More stems, blocks, layers or heads than this are a mistake, and listing their tensors would take long."""
SHARED_BIASES = ("linear_62_bias_0", "linear_64_bias_0")
"""Names of the biases of queries, keys and values, and of outputs, if all attention layers share them."""


@dataclass(frozen=True, slots=True)
class RoFormerConfig:
    """The shape of a network.

    Args:
        kind: `bs` has bands side by side; `mel` has overlapping bands on the mel scale.
        bands: the bins of the spectrum in each band.
        bins: number of bins of the spectrum.
        channels: 2 for stereo; 1: both channels are separated one after the other.
        stems: number of stems that it gives.
        dim: width of the features.
        depth: number of blocks.
        depths: layers of the linear, the time and the frequency transformer in each block.
        heads: number of attention heads.
        dim_head: width of each.
        mask_layers: layers of the mask estimators.
        mask_dim: width of their hidden layers.
        n_fft: length of the transform in samples.
        hop: samples between its frames.
        window: length of its window in samples.
        normalized: whether the transform is scaled to keep the energy.
        zero_dc: whether the lowest bin of the stems is silenced.
        skips: whether the outputs of all earlier blocks are added to a block's input.
        shared_bias: whether attention layers have biases, which all of them share.
    """

    kind: Kind
    bands: tuple[tuple[int, ...], ...]
    bins: int
    channels: int
    stems: int
    dim: int
    depth: int
    depths: tuple[int, int, int]
    heads: int
    dim_head: int
    mask_layers: int
    mask_dim: int
    n_fft: int
    hop: int
    window: int
    normalized: bool
    zero_dc: bool
    skips: bool
    shared_bias: bool


def kind_of(folder: ModelFolder) -> Kind | None:
    """Whether a configuration and a checkpoint are of a RoFormer, and which; None if they are of something else.

    The keys decide. A configuration that leaves them to their defaults is recognised by the tensors: only BS-RoFormer
    has one norm after all blocks.
    """
    model = folder.section("model")
    if "freqs_per_bands" in model:
        return "bs"
    if {"num_bands", "time_transformer_depth"} <= model.keys():
        return "mel"
    if "time_transformer_depth" not in model or "band_split.to_features.0.0.gamma" not in folder.shapes:
        return None
    return "bs" if "final_norm.gamma" in folder.shapes else "mel"


def network_config(folder: ModelFolder, kind: Kind) -> RoFormerConfig:
    """Reads the shape of the network.

    Raises:
        FolderError: a value is missing or wrong, or a key is not known.
    """
    check_keys(folder, "model", (*NETWORK_KEYS, *BAND_KEYS[kind], *UNUSED_KEYS))
    model = Section(folder, "model")
    n_fft = model.number("stft_n_fft", 2048, most=1 << 17)
    bins = n_fft // 2 + 1
    dim = model.number("dim")
    return RoFormerConfig(
        kind=kind,
        bands=_bands(folder, model, kind, n_fft),
        bins=bins,
        channels=2 if model.flag("stereo", False) else 1,
        stems=model.number("num_stems", 1, most=MOST),
        dim=dim,
        depth=model.number("depth", most=MOST),
        depths=(
            model.number("linear_transformer_depth", 0, least=0, most=MOST),
            model.number("time_transformer_depth", 2, most=MOST),
            model.number("freq_transformer_depth", 2, most=MOST),
        ),
        heads=model.number("heads", 8, most=MOST),
        dim_head=model.number("dim_head", 64, least=2),
        # The training program counts the layers of a mask estimator in two ways.
        mask_layers=model.number("mask_estimator_depth", 2 if kind == "bs" else 1, most=MOST) + (kind == "mel"),
        mask_dim=dim * model.number("mlp_expansion_factor", 4),
        n_fft=n_fft,
        hop=model.number("stft_hop_length", 512),
        window=model.number("stft_win_length", 2048),
        normalized=model.flag("stft_normalized", False),
        zero_dc=model.flag("zero_dc", True),
        skips=model.flag("skip_connection", False),
        shared_bias=model.flag("use_shared_bias", False) or SHARED_BIASES[0] in folder.shapes,
    )


def _bands(folder: ModelFolder, model: Section, kind: Kind, n_fft: int) -> tuple[tuple[int, ...], ...]:
    bins = n_fft // 2 + 1
    if kind == "mel":
        try:
            return mel_bands(model.number("sample_rate", 44_100), n_fft, model.number("num_bands", 60))
        except ValueError as error:
            raise FolderError(f"{folder.config_name}: `model.num_bands`: {error}") from error
    sizes = model.numbers("freqs_per_bands", default=BANDS)
    if sum(sizes) != bins:
        raise FolderError(
            f"{folder.config_name}: `model.freqs_per_bands` has {sum(sizes)} bins in all; {bins} are needed, because "
            f"stft_n_fft is {n_fft}"
        )
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return tuple(tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=True))
