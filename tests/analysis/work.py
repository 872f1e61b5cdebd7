"""Tasks for the analysis worker, and their reports."""

from typing import Any

from google.protobuf.json_format import ParseDict

from services.analysis.backends import registry
from services.analysis.config import AnalysisSettings
from services.common import audio
from services.common.parts import PART_NAMES
from services.common.storage.marked_store import MARKER
from services.common.storage.objects import open_store
from songs.small_songs import RATE
from stemtube.analysis.v1 import analysis_pb2 as pb

AUDIO = "originals/song"


async def put(settings: AnalysisSettings, samples: audio.Samples) -> None:
    path = settings.data_dir / "song.flac"
    audio.encode(samples, RATE, path, "flac")
    store = open_store(settings)
    await store.put(MARKER, b"1")
    await store.put(AUDIO, path)


class Reports:
    """Records what a task reports."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float]] = []
        self.kept: dict[str, Any] = {}
        self.measured: list[tuple[str, float, dict[str, str]]] = []

    def __call__(self, stage: str, fraction: float, **detail: Any) -> None:
        lyrics = [part["progress"] for part in detail.get("parts", []) if part["part"] == "PART_LYRICS"]
        self.stages.append((stage, lyrics[0] if lyrics else fraction))

    def note(self, **detail: Any) -> None:
        pass

    def keep(self, name: str, content: Any) -> None:
        self.kept[name] = content

    def measure(self, metric: str, value: float, **labels: str) -> None:
        self.measured.append((metric, value, labels))


def choice(part: str, backend: str = "auto", model: str = "auto", **more: Any) -> dict[str, Any]:
    first = registry.names(part)[0] if backend == "auto" else backend
    return {"part": part, "asked": [backend, model], "backend": first, "model": "", "language": "", **more}


def statuses(result: dict[str, Any]) -> dict[str, pb.PartStatus]:
    """How each part of a task ended, by name."""
    return {PART_NAMES[status.part]: status for status in ParseDict(result, pb.Analysis()).parts}
