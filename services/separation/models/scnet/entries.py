"""SCNet models: checkpoints that operators put into folders, with configurations as training programs write them."""

from services.separation.models.folders.checks import check_keys, compare_shapes, residual_of, stems_of
from services.separation.models.folders.cost import cost_of
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import Description, ModelFolder
from services.separation.models.folders.inference import Inference, inference_config
from services.separation.models.folders.section import Section
from services.separation.models.scnet.architecture import Architecture

VERSION = "scnet-1"
KEYS = (
    "sources", "audio_channels", "dims", "nfft", "hop_size", "win_size", "normalized", "band_SR", "band_stride",
    "band_kernel", "conv_depths", "compress", "conv_kernel", "num_dplayer", "expand",
)  # fmt: skip


def describe(folder: ModelFolder) -> Description | None:
    """Describes a folder with an SCNet; None if it has another model.

    Raises:
        FolderError: the configuration has a mistake, or the checkpoint does not fit it.
    """
    if "band_SR" not in folder.section("model"):
        return None
    sizes, inference = read(folder)
    compare_shapes(folder, sizes.shapes())
    stems = stems_of(folder, sizes.stems)
    return Description(
        family="scnet",
        stems=stems if len(stems) > 1 else (*stems, residual_of(folder, stems[0])),
        sample_rate_hz=inference.sample_rate_hz,
        version=VERSION,
        cost=cost_of(sizes.gflop() * inference.sample_rate_hz / sizes.hop_size),
        overlap=inference.overlap,
    )


def read(folder: ModelFolder) -> tuple[Architecture, Inference]:
    """Reads a configuration. The checkpoint says whether the network estimates masks.

    Raises:
        FolderError: a value is missing or wrong, or does not fit another one.
    """
    check_keys(folder, "model", KEYS)
    model = Section(folder, "model")
    sources = folder.section("model").get("sources")
    if not isinstance(sources, list) or not sources:
        raise FolderError(f"{folder.config_name}: `model.sources` must be a list of names")
    channels = model.number("audio_channels", 2)
    if channels != 2:
        raise FolderError(f"{folder.config_name}: the network takes {channels} channel(s), not 2")
    low, middle, high = model.decimals("band_SR", 3)
    strides, kernels = model.numbers("band_stride", 3), model.numbers("band_kernel", 3)
    depths = model.numbers("conv_depths", 3)
    nfft = model.number("nfft", 4096)
    try:
        sizes = Architecture(
            stems=len(sources),
            dims=model.numbers("dims"),
            band_SR=(low, middle, high),
            band_stride=(strides[0], strides[1], strides[2]),
            band_kernel=(kernels[0], kernels[1], kernels[2]),
            conv_depths=(depths[0], depths[1], depths[2]),
            compress=model.decimal("compress", 4),
            conv_kernel=model.number("conv_kernel", 3),
            num_dplayer=model.number("num_dplayer", 6, most=100),
            expand=model.number("expand", 1),
            nfft=nfft,
            hop_size=model.number("hop_size", 1024),
            win_size=model.number("win_size", nfft),
            normalized=model.flag("normalized", True),
            masked="pos_embed_f" in folder.shapes,
        )
    except ValueError as error:
        raise FolderError(f"{folder.config_name}: {error}") from error
    return sizes, inference_config(folder, least=sizes.nfft)
