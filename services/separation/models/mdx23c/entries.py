"""MDX23C models: checkpoints that operators put into folders, with configurations as training programs write them."""

from services.separation.models.folders.checks import check_keys, compare_shapes, instruments_of, residual_of, stems_of
from services.separation.models.folders.cost import cost_of
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import Description, ModelFolder
from services.separation.models.folders.inference import Inference, inference_config
from services.separation.models.folders.section import Section
from services.separation.models.mdx23c.architecture import Architecture

VERSION = "mdx23c-1"
KEYS = (
    "act", "bottleneck_factor", "growth", "norm", "num_blocks_per_scale", "num_channels", "num_scales", "num_subbands",
    "scale",
)  # fmt: skip
UNUSED_KEYS = ("name",)


def describe(folder: ModelFolder) -> Description | None:
    """Describes a folder with an MDX23C model; None if it has another one.

    Raises:
        FolderError: the configuration has a mistake, or the checkpoint does not fit it.
    """
    if "num_subbands" not in folder.section("model"):
        return None
    sizes, inference = read(folder)
    compare_shapes(folder, sizes.shapes())
    stems = stems_of(folder, sizes.stems)
    return Description(
        family="mdx23c",
        stems=stems if len(stems) > 1 else (*stems, residual_of(folder, stems[0])),
        sample_rate_hz=inference.sample_rate_hz,
        version=VERSION,
        cost=cost_of(sizes.gflop() * inference.sample_rate_hz / sizes.hop_length),
        overlap=inference.overlap,
    )


def read(folder: ModelFolder) -> tuple[Architecture, Inference]:
    """Reads a configuration.

    Raises:
        FolderError: a value is missing or wrong, or does not fit another one.
    """
    check_keys(folder, "model", (*KEYS, *UNUSED_KEYS))
    model, audio = Section(folder, "model"), Section(folder, "audio")
    targets = 1 if folder.section("training").get("target_instrument") else len(instruments_of(folder))
    height, width = model.numbers("scale", count=2)
    channels = audio.number("num_channels", 2)
    if channels != 2:
        raise FolderError(f"{folder.config_name}: the network takes {channels} channel(s), not 2")
    try:
        sizes = Architecture(
            stems=max(1, targets),
            num_channels=model.number("num_channels"),
            growth=model.number("growth", least=0),
            num_scales=model.number("num_scales"),
            scale=(height, width),
            num_blocks_per_scale=model.number("num_blocks_per_scale", most=100),
            bottleneck_factor=model.number("bottleneck_factor"),
            num_subbands=model.number("num_subbands"),
            norm=model.text("norm") if "norm" in model else None,
            act=model.text("act", "gelu"),
            dim_f=audio.number("dim_f"),
            n_fft=audio.number("n_fft"),
            hop_length=audio.number("hop_length"),
        )
    except ValueError as error:
        raise FolderError(f"{folder.config_name}: {error}") from error
    inference = inference_config(folder, least=sizes.n_fft)
    if inference.chunk % sizes.hop_length or (inference.chunk // sizes.hop_length + 1) % sizes.frame_multiple:
        raise FolderError(
            f"{folder.config_name}: `chunk_size` {inference.chunk} must be hop_length = {sizes.hop_length} times one "
            f"less than a multiple of {sizes.frame_multiple}"
        )
    return sizes, inference
