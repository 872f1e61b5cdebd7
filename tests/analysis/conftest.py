"""One song for all tests, each backend loaded once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.analysis.backends import registry
from services.analysis.backends.base import Backend, Part
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
