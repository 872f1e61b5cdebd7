"""MDX23C as a separator."""

from pathlib import Path

from services.common.errors import PreconditionError
from services.separation.models.base import Hardware, ModelEntry, Separator
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.folders.modules import load_module
from services.separation.models.mdx23c.architecture import Architecture
from services.separation.models.mdx23c.entries import describe, read
from services.separation.models.mdx23c.network import Network
from services.separation.models.segmented.cutting import FadedCutting
from services.separation.models.segmented.openvino_core import core_of
from services.separation.models.segmented.rest import WithRest
from services.separation.models.segmented.separator import SegmentedSeparator
from services.separation.models.segmented.spectral_network import Core, SpectralNetwork, batch_of
from services.separation.models.segmented.spectrogram import Spectrogram


def network_of(core: Core, sizes: Architecture, segment_samples: int) -> SpectralNetwork:
    """Makes a `Network` of a core."""
    spectrogram = Spectrogram(sizes.n_fft, sizes.hop_length, sizes.dim_f)
    return SpectralNetwork(core, spectrogram, segment_samples, frames_of(sizes, segment_samples))


def frames_of(sizes: Architecture, segment_samples: int) -> int:
    """Number of frames that the network takes for a segment."""
    return segment_samples // sizes.hop_length + 1


def load(entry: ModelEntry, paths: tuple[Path, ...], hardware: Hardware) -> Separator:
    """Loads a model from its configuration and its checkpoint.

    Raises:
        PreconditionError: they cannot be used; the message says what differs.
    """
    config_file, checkpoint = paths
    folder = ModelFolder(checkpoint.parent, config_file, checkpoint)
    try:
        description = describe(folder)
        if description is None:
            raise FolderError(f"{config_file.name} is not the configuration of an MDX23C model")
        if len(description.stems) != len(entry.stems):
            raise FolderError(f"{config_file.name} is of a network with the stems {', '.join(description.stems)}")
        sizes, inference = read(folder)
    except FolderError as fault:
        raise PreconditionError(f"{entry.name} cannot be loaded: {fault}", "WEIGHTS_UNUSABLE") from fault
    module, frames = load_module(lambda: Network(sizes), checkpoint), frames_of(sizes, inference.chunk)
    core = core_of(module, sizes.dim_f, frames, sizes.frame_multiple, hardware, entry.version)
    separator = SegmentedSeparator(
        entry.stems[: sizes.stems],
        entry.sample_rate_hz,
        [network_of(core, sizes, inference.chunk)],
        batch=batch_of(hardware),
        cutting=FadedCutting(inference.normalize),
    )
    return WithRest(separator, entry.stems[1]) if sizes.stems == 1 else separator
