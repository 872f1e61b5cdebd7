"""A new family of models is one folder: its entries and its separator. Nothing else has to know of it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.common.weights.store import WeightStore
from services.separation import models
from services.separation.models import registry
from services.separation.models.base import Options, join

ENTRIES = """
from services.separation.models.base import ModelEntry

def entries():
    return (
        ModelEntry(
            name="halves", family="halves", stems=("left", "right"), sample_rate_hz=44_100,
            licence="MIT", version="halves-1", cost=0.01, rank=15,
        ),
    )
"""
SEPARATOR = """
from services.separation.models.base import Chunk

class Halves:
    stems = ("left", "right")
    sample_rate_hz = 44_100

    def separate(self, mix, options, progress):
        yield Chunk(0, {name: 0.5 * mix for name in self.stems})
        progress(1.0)

def load(entry, paths, hardware):
    return Halves()
"""
FILES = {"__init__": "", "entries": ENTRIES, "separator": SEPARATOR}


@pytest.fixture
def _family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of a family beside the real ones, as a developer would add it."""
    folder = tmp_path / "families" / "halves"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder.parent)])
    yield
    for name in [name for name in sys.modules if name.startswith(f"{models.__name__}.halves")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_family")
def test_a_family_in_a_folder_of_its_own_is_listed_chosen_and_run(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "models", offline=True)
    assert "halves" in registry.names(store)
    assert registry.choose("halves", store).entry.stems == ("left", "right")
    mix = np.ones((2, 100), np.float32)
    chunks = registry.load("halves", store).separate(mix, Options(), lambda _: None)
    assert all(np.array_equal(stem, 0.5 * mix) for stem in join(chunks, ["left", "right"]).values())
    registry.check_order(["halves", "spleeter_2stems"])
    assert registry.choose("auto", store, ["halves"]).entry.name == "halves"
    # Its rank is between those of the others, and the weights of the first one are missing.
    choice = registry.choose("auto", store)
    assert (choice.entry.name, "halves is used in place of htdemucs" in choice.substitution) == ("halves", True)


def test_the_page_on_adding_a_model_lists_the_same_files() -> None:
    page = (Path(__file__).parents[2] / "docs/add-a-model.md").read_text()
    listed = re.findall(r"^\| `services/(.*)`", page, re.MULTILINE)
    assert listed == [f"separation/models/FAMILY/{name}.py" for name in FILES]
