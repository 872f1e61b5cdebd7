"""The published weights of htdemucs, for tests: fetched once into a cache that stays between runs.

The folder is `~/.cache/stemtube-tests/models`, or the one that `STEMTUBE_TEST_MODELS` names. Where the weights can
neither be found nor fetched, the tests that need them are skipped, and say why. `python -m
tests.separation.real_weights` fetches them beforehand.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import WeightsMissingError
from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Hardware
from songs.song import DemoSong, short_song

MODEL = "htdemucs"
CACHE = Path(os.environ.get("STEMTUBE_TEST_MODELS") or Path.home() / ".cache" / "stemtube-tests" / "models")
RATE = 44_100
STEMS = ("drums", "bass", "other", "vocals")


def fetched() -> WeightStore:
    """The cache, with the weights of htdemucs in it; skips the test if they cannot be had."""
    try:
        return fetch()
    except WeightsMissingError as error:
        pytest.skip(f"the published weights of {MODEL} cannot be fetched: {error.message}")


def fetch() -> WeightStore:
    """Fetches the weights of htdemucs into the cache, unless they are there.

    Raises:
        WeightsMissingError: they cannot be had.
    """
    store = WeightStore(CACHE)
    store.fetch(registry.weights(MODEL, store))
    return store


def in_demucs(store: WeightStore) -> Any:
    """The network as demucs itself loads it."""
    from demucs.hf import load_safetensors_model
    from demucs.states import load_model

    (path,) = store.fetch(registry.weights(MODEL, store))
    model = load_safetensors_model(path) if path.suffix == ".safetensors" else load_model(path)
    return model.eval()


def separator_in(store: WeightStore, precision: str) -> Any:
    """Our separator, compiled for this CPU as for a long song; the converted network stays in the cache."""
    from services.separation.models.demucs.openvino_network import WORTH_SEGMENTS

    separator: Any = registry.load(MODEL, store, hardware=Hardware("cpu", precision, 0.0, CACHE / registry.CONVERTED))
    for network in separator._networks:
        network.prepare(WORTH_SEGMENTS)
    return separator


def passage(start: float, end: float) -> tuple[Samples, dict[str, Samples]]:
    """A passage of the project's short song with singing, and its true stems; times in seconds."""
    song: DemoSong = short_song()
    part = slice(round(start * RATE), round(end * RATE))
    return song.mix[:, part].copy(), {name: stem[:, part] for name, stem in song.stems.items()}


if __name__ == "__main__":
    try:
        fetch()
    except WeightsMissingError as error:
        sys.stderr.write(f"NOTICE: the tests with the published weights of {MODEL} are skipped: {error.message}\n")
