"""MDX-Net models: ONNX files that operators put into folders."""

from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import Description, ModelFolder
from services.separation.models.mdx_net.onnx_file import Shape, read_ports
from services.separation.models.mdx_net.parameters import Parameters, end_md5, known_parameters, read_parameters

VERSION = "mdx_net-1"
BINS_OF_HTDEMUCS = 700
"""Bins of a network that computes as much as `htdemucs`: one of 3072 has 4.4 times its multiplications."""
KEYS = "mdx_n_fft_scale_set, mdx_dim_f_set, mdx_dim_t_set, compensate and primary_stem"


def describe(folder: ModelFolder) -> Description | None:
    """Describes a folder with an ONNX file; None if it has none.

    Raises:
        FolderError: the file or its configuration cannot be used.
    """
    if folder.checkpoint.suffix != ".onnx":
        return None
    parameters = parameters_of(folder)
    cost = round(max(0.1, parameters.bins / BINS_OF_HTDEMUCS), 1)
    return Description(family="mdx_net", stems=parameters.stems, version=VERSION, cost=cost)


def parameters_of(folder: ModelFolder) -> Parameters:
    """The parameters of a model: those of its configuration, else those of the published list.

    Raises:
        FolderError: there are none, or they do not fit the network.
    """
    name = folder.checkpoint.name
    try:
        ports = read_ports(folder.checkpoint)
    except ValueError as error:
        raise FolderError(f"{name} is damaged, or not an ONNX file: {error}; fetch it again") from error
    if folder.config_file:
        source = folder.config_name
        try:
            parameters = read_parameters(folder.config)
        except ValueError as error:
            raise FolderError(f"{source}: {error}; a configuration of MDX-Net has {KEYS}") from error
    else:
        source = "the list of published models"
        known = known_parameters(folder.checkpoint)
        if known is None:
            raise FolderError(
                f"{name} is not in {source} (MD5 of its last 10,000 KiB: {end_md5(folder.checkpoint)}), and there is "
                f"no configuration: put a config.yaml with {KEYS} beside it"
            )
        parameters = known
    expected = (4, parameters.bins, parameters.frames)
    for kind, shapes in (("takes", ports.inputs), ("gives", ports.outputs)):
        if len(shapes) != 1 or not _fits(next(iter(shapes.values())), expected):
            found = ", ".join(_text(shape[1:]) for shape in shapes.values()) or "nothing"
            raise FolderError(
                f"{name} does not fit {source}: its network {kind} {found} (parts x bins x frames), but mdx_dim_f_set "
                f"and mdx_dim_t_set ask for {_text(expected)}"
            )
    return parameters


def _fits(shape: Shape, expected: tuple[int, ...]) -> bool:
    """Whether a shape [segments, parts, bins, frames] is the expected one; dimensions may be left open."""
    return len(shape) == 4 and all(
        size is None or size == wanted for size, wanted in zip(shape[1:], expected, strict=True)
    )


def _text(shape: Shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)
