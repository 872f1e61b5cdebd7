"""The options of a model for each quality."""

from services.separation.models.base import Options
from stemtube.separation.v1 import separation_pb2 as pb

BALANCED = Options(shifts=0, overlap=0.25)
PRESETS: dict[int, Options] = {
    pb.QUALITY_UNSPECIFIED: BALANCED,
    pb.QUALITY_FAST: Options(shifts=0, overlap=0.1),
    pb.QUALITY_BALANCED: BALANCED,
    pb.QUALITY_BEST: Options(shifts=2, overlap=0.5),
}
