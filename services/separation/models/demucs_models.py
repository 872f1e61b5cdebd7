"""Demucs: waveform and hybrid networks of the package `demucs`, run segment by segment.

After A. Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR MDX workshop 2021, and S. Rouard,
F. Massa, A. Défossez: "Hybrid Transformers for Music Source Separation", ICASSP 2023.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from demucs.apply import BagOfModels
from demucs.htdemucs import HTDemucs
from demucs.pretrained import REMOTE_ROOT, get_model
from demucs.repo import AnyModelRepo, BagOnlyRepo, LocalRepo, ModelLoadingError

from services.common.errors import PreconditionError
from services.separation.models import openvino_network
from services.separation.models.base import Entry, Hardware, Options, Progress, Samples, Stretch, check_mix
from services.separation.models.htdemucs_network import HTDemucsTorchNetwork, Precision
from services.separation.models.network import FittingNetwork, Network, TorchNetwork
from services.separation.models.openvino_network import OpenVinoNetwork
from services.separation.models.segments import Cut, Song, merge, run_pass

log = structlog.get_logger(__name__)

MAX_SHIFT_SECONDS = 0.5
# What one segment of HTDemucs in a batch takes of a GPU's memory, in half precision, beside 1 GiB for the network:
# a guess until it is measured; batches that do not fit are halved.
SEGMENT_GIB, NETWORK_GIB = 1.5, 1.0


@dataclass(frozen=True, slots=True)
class Member:
    """One model of a bag.

    Args:
        network: the model.
        quick: a faster one that first has to be loaded, if there is one; it earns that back in a long song.
        share: float32 [stems]: its part in the mean of the bag's models.
    """

    network: Network
    quick: OpenVinoNetwork | None
    share: Samples

    def network_for(self, segments: int) -> Network:
        """The one that has so many segments done first."""
        if self.quick is None or not (self.quick.ready or segments >= openvino_network.WORTH_SEGMENTS):
            return self.network
        self.quick.load()
        return self.quick


class DemucsSeparator:
    """A `Separator` around a demucs model or bag of models."""

    def __init__(self, model: Any, hardware: Hardware, version: str = "", dice: random.Random | None = None) -> None:
        if model.audio_channels != 2:
            raise PreconditionError(f"the model takes {model.audio_channels} channels, not 2", "WEIGHTS_UNUSABLE")
        models, weights = [model], np.ones((1, len(model.sources)), np.float32)
        if isinstance(model, BagOfModels):
            models, weights = list(model.models), np.array(model.weights, np.float32)
        device = torch.device(hardware.device)
        self._members = [
            Member(*_networks(one, device, hardware, f"{version} {number}"), share)
            for number, (one, share) in enumerate(zip(models, weights / weights.sum(axis=0), strict=True))
        ]
        self._batch = _batch_size(device, hardware.memory_gib)
        self._dice = dice or random.Random()
        self.stems = tuple(str(source) for source in model.sources)
        self.sample_rate_hz = int(model.samplerate)

    def separate(self, mix: Samples, options: Options, progress: Progress) -> Iterator[Stretch]:
        """See `Separator.separate`. Scales the mix as demucs' own `Separator` does."""
        check_mix(mix)
        progress(0.0)
        song = Song.of(mix)
        passes = (
            [
                (member, Cut(member.network.segment_samples, options.overlap, lead))
                for member in self._members
                for lead in self._leads(options.shifts)
            ]
            if mix.size
            else []
        )
        counts = [len(cut.segments(song.samples)) for _, cut in passes]
        done = 0

        def counting(network: Network) -> Any:
            def estimate(pieces: Samples) -> Samples:
                nonlocal done
                stems = network(pieces)
                done += len(pieces)
                progress(done / sum(counts))
                return stems

            return estimate

        running = []
        for member, cut in passes:
            network = member.network_for(sum(counts) // len(self._members))
            running.append(run_pass(song, cut, counting(network), network.valid_length, self._batch))
        shares = [member.share / np.float32(max(1, options.shifts)) for member, _ in passes]
        start = 0
        for stretch in merge(running, shares):
            if stretch.shape[-1]:
                yield Stretch(start, dict(zip(self.stems, song.restore(stretch), strict=True)))
                start += stretch.shape[-1]
        if not mix.size:
            progress(1.0)

    def _leads(self, shifts: int) -> list[int]:
        """Silence before the song in each pass: demucs' random shifts of up to half a second."""
        most = int(MAX_SHIFT_SECONDS * self.sample_rate_hz)
        return [most - self._dice.randint(0, most) for _ in range(shifts)] or [0]


def _networks(
    model: Any, device: torch.device, hardware: Hardware, version: str
) -> tuple[Network, OpenVinoNetwork | None]:
    """What runs a model here, and what runs it faster once it is loaded."""
    if not (isinstance(model, HTDemucs) and model.use_train_segment and model.cac):
        return FittingNetwork(TorchNetwork(model, device)), None
    precision = _precision(device, hardware.precision)
    network = FittingNetwork(HTDemucsTorchNetwork(model, device, precision))
    why_not = openvino_network.why_not() if device.type == "cpu" else "it is for CPUs"
    if why_not:
        log.info("separating with torch", device=str(device), precision=precision, no_openvino=why_not)
        return network, None
    log.info("separating with OpenVINO", precision=precision)
    return network, OpenVinoNetwork(model, precision, hardware.cache, version)


def _precision(device: torch.device, asked: str) -> Precision:
    """bfloat16 where the processor multiplies in it (output within -36 dB of float32's), on older GPUs float16."""
    match device.type, asked:
        case _, "float32" | "bfloat16":
            return asked
        case "cuda", "float16":
            return "float16"
        case "cuda", _:
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        case "cpu", _ if not openvino_network.why_not() and openvino_network.cpu_has_bfloat16():
            return "bfloat16"
    return "float32"


def _batch_size(device: torch.device, memory_gib: float) -> int:
    """Segments at a time: one on a CPU (more are no faster), as many as fit on a GPU."""
    if device.type != "cuda":
        return 1
    free = torch.cuda.mem_get_info(device)[0] / 2**30
    return max(1, int(((memory_gib or 0.75 * free) - NETWORK_GIB) / SEGMENT_GIB))


def load(entry: Entry, paths: tuple[Path, ...], hardware: Hardware) -> DemucsSeparator:
    """Loads a published model, or one of the user's own, from the folder that holds `paths`.

    Demucs packages are pickles, which may run code when loaded: those of the hub are pinned by their checksums, and the
    user's own are the operator's to trust.

    Raises:
        PreconditionError: demucs cannot make a model of the files.
    """
    folder = paths[0].parent
    try:
        if (REMOTE_ROOT / f"{entry.name}.yaml").is_file():
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
    return DemucsSeparator(model, hardware, entry.version)
