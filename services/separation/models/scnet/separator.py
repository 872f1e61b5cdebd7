"""SCNet as a separator."""

from dataclasses import replace
from pathlib import Path

import torch

from services.common.errors import PreconditionError
from services.separation.models.base import Hardware, ModelEntry, Separator
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.folders.modules import load_module
from services.separation.models.scnet.architecture import Architecture
from services.separation.models.scnet.entries import describe, read
from services.separation.models.scnet.network import Network
from services.separation.models.segmented.cutting import FadedCutting
from services.separation.models.segmented.openvino_core import core_of
from services.separation.models.segmented.rest import WithRest
from services.separation.models.segmented.separator import SegmentedSeparator
from services.separation.models.segmented.spectral_network import Core, SpectralNetwork, batch_of
from services.separation.models.segmented.spectrogram import Spectrogram

TRACED_FRAMES = 8
"""Frames with which a network is converted. All frames give the same graph, in more time."""


def network_of(core: Core, sizes: Architecture, segment_samples: int) -> SpectralNetwork:
    """Makes a `Network` of a core.

    The spectrogram has no window, or a Hann window if the network estimates masks, as in training.
    """
    window = torch.hann_window(sizes.nfft) if sizes.masked else torch.ones(sizes.win_size)
    spectrogram = Spectrogram(sizes.nfft, sizes.hop_size, window=window, normalized=sizes.normalized)
    return SpectralNetwork(core, spectrogram, segment_samples, frames_of(sizes, segment_samples))


def frames_of(sizes: Architecture, segment_samples: int) -> int:
    """Number of frames that the network takes for a segment: even, and with one that is mostly silence."""
    frames = segment_samples // sizes.hop_size + 2
    return frames + frames % 2


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
            raise FolderError(f"{config_file.name} is not the configuration of an SCNet")
        if len(description.stems) != len(entry.stems):
            raise FolderError(f"{config_file.name} is of a network with the stems {', '.join(description.stems)}")
        sizes, inference = read(folder)
    except FolderError as fault:
        raise PreconditionError(f"{entry.name} cannot be loaded: {fault}", "WEIGHTS_UNUSABLE") from fault
    if hardware.precision == "auto" and torch.device(hardware.device).type == "cpu":
        hardware = replace(hardware, precision="float32")  # what bfloat16 does to LSTMs of full size is not measured
    module, frames = load_module(lambda: Network(sizes), checkpoint), frames_of(sizes, inference.chunk)
    core = core_of(module, sizes.nfft // 2 + 1, frames, TRACED_FRAMES, hardware, entry.version)
    separator = SegmentedSeparator(
        entry.stems[: sizes.stems],
        entry.sample_rate_hz,
        [network_of(core, sizes, inference.chunk)],
        batch=batch_of(hardware),
        cutting=FadedCutting(inference.normalize),
    )
    return WithRest(separator, entry.stems[1]) if sizes.stems == 1 else separator
