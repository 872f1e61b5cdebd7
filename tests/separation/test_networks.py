"""HTDemucs in parts, in half precision and converted: the same stems, faster."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demucs.htdemucs import HTDemucs
from demucs.transformer import LayerScale

from services.separation.models.base import Hardware
from services.separation.models.demucs import htdemucs_layers
from services.separation.models.demucs.htdemucs_network import HTDemucsTorchNetwork, Transforms
from services.separation.models.demucs.openvino_network import WORTH_SEGMENTS, OpenVinoNetwork
from services.separation.models.demucs.separator import network_of
from services.separation.models.segmented.precision import Precision

RATE = 44_100
SOURCES = ["drums", "bass", "other", "vocals"]
CPU = torch.device("cpu")


def small(**changes: Any) -> Any:
    torch.manual_seed(3)
    options: dict[str, Any] = {"channels": 8, "depth": 4, "t_layers": 1, "t_heads": 2, "segment": Fraction(1, 2)}
    return grown(HTDemucs(sources=SOURCES, samplerate=RATE, **options | changes))


@pytest.fixture(scope="module")
def full() -> Any:
    """The architecture of the published htdemucs with random weights."""
    torch.manual_seed(4)
    segment = Fraction(39, 5)
    return grown(HTDemucs(sources=SOURCES, samplerate=RATE, segment=segment, bottom_channels=512, t_layers=5))


def grown(model: Any) -> Any:
    """A model whose residual and transformer layers matter: in a new one their scales are 1e-4 to 1e-3."""
    for module in model.modules():
        if isinstance(module, LayerScale):
            module.scale.data.uniform_(0.1, 0.5)
    return model.eval()


@pytest.fixture(autouse=True)
def _both_cores() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def segments(model: Any, count: int = 1) -> torch.Tensor:
    """Normalised noise whose spectrum falls as that of music does."""
    samples = int(model.samplerate * model.segment)
    white = np.random.default_rng(1).standard_normal((count, 2, samples + 15))
    pink = sum(white[..., lag : lag + samples] for lag in range(16)) / 4
    return torch.tensor(pink, dtype=torch.float32)


@torch.inference_mode()
def reference(model: Any, batch: torch.Tensor) -> torch.Tensor:
    stems: torch.Tensor = model(batch)
    return stems


def error_decibel(stems: torch.Tensor, expected: torch.Tensor) -> float:
    return 20 * float(torch.log10(torch.linalg.norm(stems - expected) / torch.linalg.norm(expected)))


@pytest.mark.parametrize("count", [1, 3])
def test_a_network_in_parts_equals_the_whole(count: int) -> None:
    model = small()
    batch = segments(model, count)
    network = HTDemucsTorchNetwork(model, CPU, "float32")
    torch.testing.assert_close(network(batch), reference(model, batch), atol=1e-6, rtol=0)
    assert network.valid_length(5) == network.segment_samples == batch.shape[-1]


PUBLISHED = [{}, {"bottom_channels": 24}, {"t_layers": 2}, {"norm_starts": 1, "norm_groups": 2}]


@pytest.mark.parametrize("options", PUBLISHED)
def test_layers_for_compilers_equal_demucs_own(options: dict[str, Any]) -> None:
    model = small(**options)
    assert htdemucs_layers.suits(model)
    wave = segments(model)
    transforms = Transforms(model)
    spectrum = transforms.split(wave)
    with torch.no_grad():
        levels = htdemucs_layers.levels_of(wave, spectrum)
        stems, waves = htdemucs_layers.Core(model)(wave, spectrum, levels)
        joined = transforms.join_channels_last(stems[0], waves[0, 0])
    torch.testing.assert_close(joined, reference(model, wave)[0], atol=2e-6, rtol=0)


@pytest.mark.parametrize("options", [{"t_norm_first": False}, {"t_sin_random_shift": 3}, {"t_group_norm": 2}])
def test_a_model_with_other_layers_runs_in_torch(options: dict[str, Any]) -> None:
    model = small(**options)
    assert not htdemucs_layers.suits(model)
    assert isinstance(network_of(model, Hardware(), "v1"), HTDemucsTorchNetwork)


@pytest.mark.long
def test_bfloat16_in_torch_stays_close_enough(full: Any) -> None:
    batch = segments(full)
    assert error_decibel(HTDemucsTorchNetwork(full, CPU, "bfloat16")(batch), reference(full, batch)) < -36


def prepared(model: Any, precision: Precision, folder: Path | None) -> OpenVinoNetwork:
    pytest.importorskip("openvino", reason="openvino is not installed: networks run in torch")
    network = OpenVinoNetwork(model, precision, folder, "v1")
    network.prepare(WORTH_SEGMENTS)
    return network


@pytest.mark.long
def test_bfloat16_in_openvino_stays_close_enough(full: Any, tmp_path: Path) -> None:
    batch = segments(full)
    assert error_decibel(prepared(full, "bfloat16", tmp_path)(batch), reference(full, batch)) < -36


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    prepared(small(), "float32", folder)
    return folder


def test_a_converted_network_equals_torch_and_is_cached(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(*_arguments: Any) -> None:
        raise AssertionError("it was converted again")

    monkeypatch.setattr(OpenVinoNetwork, "_convert", convert)
    assert sorted(path.suffix for path in converted.iterdir()) == [".bin", ".xml"]
    model = small()
    batch = segments(model, 2)
    network = OpenVinoNetwork(model, "float32", converted, "v1")
    network.prepare(1)  # however short the song: it is fast now
    torch.testing.assert_close(network(batch), reference(model, batch), atol=1e-5, rtol=0)
    with pytest.raises(AssertionError, match="converted again"):
        OpenVinoNetwork(model, "float32", converted, "v2").prepare(WORTH_SEGMENTS)


@pytest.mark.long
def test_a_damaged_converted_network_is_converted_again(converted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(converted, folder)
    (path,) = folder.glob("*.bin")
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    model = small()
    batch = segments(model)
    torch.testing.assert_close(prepared(model, "float32", folder)(batch), reference(model, batch), atol=1e-5, rtol=0)
    assert path.stat().st_size == len(sound)


@pytest.mark.long
def test_a_network_is_converted_even_if_its_folder_is_read_only(tmp_path: Path) -> None:
    model = small()
    (tmp_path / "file").touch()
    batch = segments(model)
    network = prepared(model, "float32", tmp_path / "file" / "below")
    torch.testing.assert_close(network(batch), reference(model, batch), atol=1e-5, rtol=0)


def test_a_short_first_song_does_not_wait_for_the_conversion(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: networks run in torch")
    model = small()
    network = OpenVinoNetwork(model, "float32", tmp_path, "v1")
    network.prepare(WORTH_SEGMENTS - 1)
    batch = segments(model)
    torch.testing.assert_close(network(batch), reference(model, batch), atol=1e-6, rtol=0)
    assert not list(tmp_path.iterdir())
    network.prepare(1)
    assert list(tmp_path.iterdir()), "several short songs earn it back, too"


def test_openvino_sends_no_telemetry() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: networks run in torch")
    program = (
        "from services.separation.models.segmented.openvino_runtime import import_openvino\n"
        "import_openvino()\n"
        "import sys, openvino.tools.ovc.telemetry_utils as used\n"
        "print(used.tm.__name__, [name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert result.stdout.strip() == "openvino.tools.ovc.telemetry_stub []"
