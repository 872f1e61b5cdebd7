"""The options of a model for each quality."""

from dataclasses import replace

from services.separation.models.base import Options
from stemtube.separation.v1 import separation_pb2 as pb

BALANCED = Options(shifts=0, overlap=0.25)
PRESETS: dict[int, Options] = {
    pb.QUALITY_UNSPECIFIED: BALANCED,
    pb.QUALITY_FAST: Options(shifts=0, overlap=0.1),
    pb.QUALITY_BALANCED: BALANCED,
    pb.QUALITY_BEST: Options(shifts=2, overlap=0.5),
}


def of_quality(quality: int, overlap: float | None) -> Options:
    """The options for a quality.

    Args:
        quality: a key of `PRESETS`.
        overlap: the overlap that the model's authors recommend; None if they do not. It is that of the balanced
            quality; the best has at least this one, the fastest does not have it.
    """
    options = PRESETS[quality]
    if overlap is None or quality == pb.QUALITY_FAST:
        return options
    return replace(options, overlap=max(overlap, options.overlap) if quality == pb.QUALITY_BEST else overlap)
