"""Loads RoFormers."""

from pathlib import Path

import structlog
import torch

from services.common.errors import PreconditionError
from services.separation.models.base import Hardware, ModelEntry, Separator
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.folders.inference import inference_config
from services.separation.models.folders.tensors import load_tensors
from services.separation.models.roformer.config import RoFormerConfig, kind_of, network_config
from services.separation.models.roformer.entries import describe
from services.separation.models.roformer.network import RoFormer
from services.separation.models.roformer.openvino_network import OpenVinoNetwork
from services.separation.models.roformer.parameters import is_copy
from services.separation.models.roformer.torch_network import TorchNetwork
from services.separation.models.segmented import openvino_runtime
from services.separation.models.segmented.cutting import FadedCutting
from services.separation.models.segmented.network import Network
from services.separation.models.segmented.precision import precision_of
from services.separation.models.segmented.rest import WithRest
from services.separation.models.segmented.separator import SegmentedSeparator

log = structlog.get_logger(__name__)

NETWORK_GIB = 2.0
BYTES_PER_FEATURE = 40
"""GPU memory of a segment for each feature of each of its positions: an estimate, not yet measured."""


def load(entry: ModelEntry, paths: tuple[Path, ...], hardware: Hardware) -> Separator:
    """Loads a model from its configuration and its checkpoint.

    Raises:
        PreconditionError: they cannot be used; the message says what differs.
    """
    config_file, checkpoint = paths
    folder = ModelFolder(checkpoint.parent, config_file, checkpoint)
    try:
        description, kind = describe(folder), kind_of(folder)
        if description is None or kind is None:
            raise FolderError(f"{config_file.name} is not the configuration of a RoFormer")
        if len(description.stems) != len(entry.stems):
            raise FolderError(f"{config_file.name} is of a network with the stems {', '.join(description.stems)}")
        # A catalogue may give other names, but not another order.
        stems = description.stems if set(description.stems) == set(entry.stems) else entry.stems
        config, inference = network_config(folder, kind), inference_config(folder)
    except FolderError as fault:
        raise PreconditionError(f"{entry.name} cannot be loaded: {fault}", "WEIGHTS_UNUSABLE") from fault
    network = network_of(config, inference.chunk, checkpoint, hardware, entry.version)
    separator = SegmentedSeparator(
        stems[: config.stems],
        inference.sample_rate_hz,
        [network],
        batch=_batch(config, inference.chunk, hardware),
        cutting=FadedCutting(inference.normalize),
    )
    return WithRest(separator, stems[1]) if len(stems) > config.stems else separator


def network_of(config: RoFormerConfig, chunk: int, checkpoint: Path, hardware: Hardware, version: str) -> Network:
    """The fastest network on this hardware."""
    device = torch.device(hardware.device)
    precision = precision_of(device, hardware.precision)
    why_not = openvino_runtime.why_not() if device.type == "cpu" else "it is for CPUs"
    if why_not:
        log.info("network runs in torch", device=hardware.device, precision=precision, why_not_openvino=why_not)
        return TorchNetwork(load_network(config, checkpoint), config, chunk, device, precision)
    log.info("network runs in OpenVINO", precision=precision)
    return OpenVinoNetwork(lambda: load_network(config, checkpoint), config, chunk, precision, hardware.cache, version)


def load_network(config: RoFormerConfig, checkpoint: Path) -> RoFormer:
    """The network in torch with the weights of a checkpoint that fits it."""
    with torch.device("meta"):
        model = RoFormer(config)
    tensors = load_tensors(checkpoint)
    if config.shared_bias:
        tensors = {name: tensor for name, tensor in tensors.items() if not is_copy(name)}
    model.load_state_dict(tensors, assign=True)  # without a second copy of the weights
    return model


def _batch(config: RoFormerConfig, chunk: int, hardware: Hardware) -> int:
    """Segments in a batch: one on a CPU, where larger batches are not faster; on a GPU as many as should fit."""
    device = torch.device(hardware.device)
    if device.type != "cuda":
        return 1
    gib = hardware.memory_gib or 0.75 * torch.cuda.mem_get_info(device)[0] / 2**30
    segment = BYTES_PER_FEATURE * (chunk // config.hop + 1) * len(config.bands) * config.dim / 2**30
    return max(1, int((gib - NETWORK_GIB) / segment))
