"""MDX-Net as a separator."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import structlog

from services.common.errors import PreconditionError
from services.common.samples import Samples
from services.separation.models.base import Hardware, ModelEntry, Options, Separator
from services.separation.models.folders.faults import FolderError
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.mdx_net.entries import parameters_of
from services.separation.models.mdx_net.network import OnnxCore, network_of
from services.separation.models.segmented import openvino_runtime
from services.separation.models.segmented.cutting import RAW, Cut, TriangleCut
from services.separation.models.segmented.network import Network
from services.separation.models.segmented.rest import WithRest
from services.separation.models.segmented.segments import Level
from services.separation.models.segmented.separator import SegmentedSeparator

log = structlog.get_logger(__name__)


class MdxCutting:
    """The segments of MDX-Net with their margins, from the mix as it is.

    KUIELab's code puts them side by side. Here they overlap and are cross-faded as in demucs, so that no joint is
    heard; without an overlap, the results are the same. There are no time shifts.
    """

    def level(self, _mix: Samples) -> Level:
        """See `Cutting.level`."""
        return RAW

    def cuts(
        self, network: Network, samples: int, options: Options, _sample_rate_hz: int, _random: Random
    ) -> Sequence[Cut]:
        """See `Cutting.cuts`. There is one."""
        return [TriangleCut(network, samples, options.overlap, 0)]


def load(entry: ModelEntry, paths: tuple[Path, ...], hardware: Hardware) -> Separator:
    """Loads a model from the folder of `paths`. It runs on the CPU, whatever the device.

    Raises:
        PreconditionError: the file or its parameters cannot be used, or OpenVINO is not installed.
    """
    if why_not := openvino_runtime.why_not():
        raise PreconditionError(f"{entry.name} needs OpenVINO, but {why_not}", "WEIGHTS_UNUSABLE")
    bfloat16 = hardware.precision == "bfloat16" and openvino_runtime.cpu_has_bfloat16()
    precision = "bfloat16" if bfloat16 else "float32"
    log.info("network runs in OpenVINO", precision=precision)
    try:
        folder = ModelFolder(paths[-1].parent, paths[0] if len(paths) > 1 else None, paths[-1])
        parameters = parameters_of(folder)
        network = network_of(OnnxCore(folder.checkpoint, parameters, precision), parameters)
    except FolderError as fault:
        raise PreconditionError(f"{entry.name} cannot be used: {fault}", "WEIGHTS_UNUSABLE") from fault
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]
        raise PreconditionError(f"OpenVINO cannot load {paths[-1].name}: {why}", "WEIGHTS_UNUSABLE") from error
    stem, rest = entry.stems
    separator = SegmentedSeparator([stem], entry.sample_rate_hz, [network], cutting=MdxCutting())
    return WithRest(separator, rest, parameters.compensate)
