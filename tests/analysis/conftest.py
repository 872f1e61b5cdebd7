"""One song for all tests, each backend loaded once; the worker and its settings."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from services.analysis.backends import registry
from services.analysis.backends.base import Backend
from services.analysis.config import AnalysisSection, AnalysisSettings
from services.analysis.service import KIND
from services.analysis.worker import AnalysisWorker
from services.common.config import LogSettings
from services.common.jobs.queue import JobQueue
from services.common.parts import Part
from services.common.samples import Audio
from services.common.weights.store import WeightStore
from songs.small_songs import RATE, Song, pop_song

LoadBackend = Callable[[Part, str], Backend]
Excerpt = Callable[[float], Audio]


@pytest.fixture(scope="session")
def song() -> Song:
    """20 s in C major at 100 BPM, 4/4: C, A minor, F and G, twice, a bar each."""
    return pop_song(["C:maj", "A:min", "F:maj", "G:maj"] * 2)


@pytest.fixture(scope="session")
def excerpt(song: Song) -> Excerpt:
    """The first seconds of the song."""
    return lambda seconds: Audio(np.ascontiguousarray(song.audio.samples[:, : round(seconds * RATE)]), RATE)


@pytest.fixture(scope="session")
def load_backend(tmp_path_factory: pytest.TempPathFactory) -> LoadBackend:
    store = WeightStore(Path(tmp_path_factory.mktemp("models")), offline=True)
    loaded: dict[tuple[Part, str], Backend] = {}

    def load(part: Part, name: str) -> Backend:
        if (part, name) not in loaded:
            loaded[part, name] = registry.load(part, name, store)
        return loaded[part, name]

    return load


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AnalysisSettings:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return AnalysisSettings(data_dir=tmp_path, log=LogSettings(), analysis=AnalysisSection(device="cpu"))


@pytest.fixture
async def jobs(settings: AnalysisSettings) -> AsyncIterator[JobQueue]:
    worker = AnalysisWorker(settings)
    queue = JobQueue(
        f"sqlite:///{settings.data_dir}/jobs.sqlite", "analysis-test", handlers={KIND: worker.handle}, slots=1
    )
    await queue.start()
    yield queue
    await queue.close()
    await worker.close()
