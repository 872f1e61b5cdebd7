"""Demucs: waveform and hybrid networks, run by the package `demucs`.

After A. Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR MDX workshop 2021, and S. Rouard,
F. Massa, A. Défossez: "Hybrid Transformers for Music Source Separation", ICASSP 2023.
"""

from pathlib import Path
from typing import Any

import structlog
import torch
from demucs.apply import BagOfModels
from demucs.hf import load_safetensors_model
from demucs.htdemucs import HTDemucs
from demucs.pretrained import REMOTE_ROOT, get_model
from demucs.repo import AnyModelRepo, BagOnlyRepo, LocalRepo, ModelLoadingError

from services.common.errors import PreconditionError
from services.separation.models.base import CPU, Hardware, ModelEntry
from services.separation.models.demucs import htdemucs_layers
from services.separation.models.demucs.htdemucs_network import HTDemucsTorchNetwork
from services.separation.models.demucs.openvino_network import OpenVinoNetwork
from services.separation.models.demucs.torch_network import TorchNetwork
from services.separation.models.segmented import openvino_runtime
from services.separation.models.segmented.network import Network
from services.separation.models.segmented.precision import precision_of
from services.separation.models.segmented.separator import SegmentedSeparator

log = structlog.get_logger(__name__)

# GPU memory of a batch of HTDemucs in half precision: an estimate, not yet measured.
NETWORK_GIB, SEGMENT_GIB = 1.0, 1.5


def separator_of(model: Any, hardware: Hardware = CPU, version: str = "") -> SegmentedSeparator:
    """Makes a separator of a model that demucs has loaded.

    Args:
        model: a module of demucs, or a `BagOfModels`.
        hardware: the hardware to run on.
        version: version of the weights, which identifies converted networks.

    Raises:
        PreconditionError: the model cannot be used.
    """
    if model.audio_channels != 2:
        raise PreconditionError(f"the model takes {model.audio_channels} channels, not 2", "WEIGHTS_UNUSABLE")
    modules, weights = (model.models, model.weights) if isinstance(model, BagOfModels) else ([model], None)
    stems = [str(source) for source in model.sources]
    networks = [network_of(module, hardware, f"{version} {number}") for number, module in enumerate(modules)]
    return SegmentedSeparator(stems, int(model.samplerate), networks, weights, _batch(hardware))


def network_of(model: Any, hardware: Hardware, version: str) -> Network:
    """Makes the fastest network of a module on this hardware.

    Args:
        model: a module of demucs.
        hardware: the hardware to run on.
        version: version of the weights, which identifies a converted network.
    """
    device = torch.device(hardware.device)
    if not (isinstance(model, HTDemucs) and model.use_train_segment and model.cac):
        log.info("network runs in torch", device=hardware.device, precision="float32", kind=type(model).__name__)
        return TorchNetwork(model, device)
    precision = precision_of(device, hardware.precision)
    why_not = openvino_runtime.why_not() if device.type == "cpu" else "it is for CPUs"
    if not (why_not or htdemucs_layers.suits(model)):
        why_not = "the model has layers that the published ones do not have"
    if why_not:
        log.info("network runs in torch", device=hardware.device, precision=precision, why_not_openvino=why_not)
        return HTDemucsTorchNetwork(model, device, precision)
    log.info("network runs in OpenVINO", precision=precision)
    return OpenVinoNetwork(model, precision, hardware.cache, version)


def _batch(hardware: Hardware) -> int:
    """Segments in a batch: one on a CPU, where larger batches are not faster; on a GPU as many as should fit."""
    device = torch.device(hardware.device)
    if device.type != "cuda":
        return 1
    gib = hardware.memory_gib or 0.75 * torch.cuda.mem_get_info(device)[0] / 2**30
    return max(1, int((gib - NETWORK_GIB) / SEGMENT_GIB))


def load(entry: ModelEntry, paths: tuple[Path, ...], hardware: Hardware) -> SegmentedSeparator:
    """Loads a published model, or a user's own, from the folder of `paths`.

    Demucs packages are pickles, which may run code when they are loaded; safetensors files name the class to make.
    Published ones are pinned by their checksums; the operator must trust users' own ones.

    Raises:
        PreconditionError: demucs cannot make a model of the files.
    """
    folder = paths[0].parent
    model: Any
    try:
        if paths[0].suffix == ".safetensors":
            model = load_safetensors_model(paths[0])
        elif (REMOTE_ROOT / f"{entry.name}.yaml").is_file():
            packages = LocalRepo(folder)
            model = AnyModelRepo(packages, BagOnlyRepo(REMOTE_ROOT, packages)).get_model(entry.name)
        else:
            model = get_model(entry.name, repo=folder)
    except (ModelLoadingError, AssertionError, RuntimeError, LookupError, TypeError) as error:
        why = str(error).replace(f"{folder}/", "")
        raise PreconditionError(f"demucs cannot load {entry.name}: {why}", "WEIGHTS_UNUSABLE") from error
    except SystemExit as error:  # how demucs reports that an optional package is missing
        raise PreconditionError(
            f"demucs cannot load {entry.name}: it needs the package diffq", "WEIGHTS_UNUSABLE"
        ) from error
    return separator_of(model, hardware, entry.version)
