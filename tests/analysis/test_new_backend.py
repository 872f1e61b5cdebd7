"""A new backend is one module and one entry in its part's folder. Nothing else has to know of it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.analysis.backends import chords, registry
from services.analysis.backends.base import BackendEntry, Chord, Chords, Context
from services.analysis.backends.chords import entries
from services.analysis.config import AnalysisSettings
from services.analysis.worker import prove_device
from services.common.compute import torch_devices
from services.common.errors import DeviceNotReadyError
from services.common.samples import Audio
from services.common.weights.store import WeightStore

MODULE = """
from services.analysis.backends.base import Chord, Chords
from services.common.errors import DeviceNotReadyError

class Drone:
    def analyze(self, audio, context, progress):
        progress(1.0)
        return Chords((Chord(0.0, audio.duration, "C:maj", 1.0),))

def load(store, model, device):
    return Drone()

def prove(device):
    raise DeviceNotReadyError(f"{device} does not drone")
"""
ENTRY = BackendEntry(
    name="drone",
    module="drone",
    version="drone-1",
    licence="MIT",
    description="One chord throughout",
    cost=0.01,
    proves_device=True,
)


@pytest.fixture
def _backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module in the folder of the chords, as a developer would add it, and its line in the entries."""
    (tmp_path / "drone.py").write_text(MODULE)
    monkeypatch.setattr(chords, "__path__", [*chords.__path__, str(tmp_path)])
    monkeypatch.setattr(entries, "ENTRIES", (*entries.ENTRIES, ENTRY))
    yield
    sys.modules.pop(f"{chords.__name__}.drone", None)


@pytest.mark.usefixtures("_backend")
def test_a_backend_with_one_module_and_one_entry_is_listed_chosen_and_run(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "models", offline=True)
    assert "drone" in registry.names("chords")
    assert registry.choose("chords", "drone", registry.AUTO, store).made_by["version"] == "drone-1"
    sound = Audio(np.zeros((2, 44_100), np.float32), 44_100)
    found = registry.load("chords", "drone", store).analyze(sound, Context(), lambda _: None)
    assert found == Chords((Chord(0.0, 1.0, "C:maj", 1.0),))
    first = registry.choose("chords", registry.AUTO, registry.AUTO, store, order={"chords": ["drone", "chordia"]})
    assert first.entry.name == "drone"


@pytest.mark.usefixtures("_backend")
def test_a_worker_does_not_start_on_a_device_that_a_backends_library_cannot_use(
    settings: AnalysisSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prove_device(settings) == "cpu"
    monkeypatch.setattr(torch_devices, "prove", lambda _: "cuda")
    with pytest.raises(DeviceNotReadyError, match="cuda does not drone"):
        prove_device(settings)


def test_the_page_on_adding_a_backend_lists_the_same_files() -> None:
    page = (Path(__file__).parents[2] / "docs/add-a-backend.md").read_text()
    listed = re.findall(r"^\| `services/(.*)`", page, re.MULTILINE)
    assert listed == [f"analysis/backends/PART/{name}.py" for name in ("NAME", "entries")]
