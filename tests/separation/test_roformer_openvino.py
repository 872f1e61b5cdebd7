"""RoFormers by OpenVINO equal those in torch, are converted once, and not for a short song."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Hardware, Options, join
from services.separation.models.roformer import separator
from services.separation.models.roformer.openvino_network import WORTH_SEGMENTS, OpenVinoNetwork
from tests.separation.roformers import BS, CHUNK, MEL, config_text, in_torch, write_folder

pytest.importorskip("openvino", reason="openvino is not installed: networks run in torch")

TWO = {"instruments": ["drums", "bass"], "target_instrument": None}
MIX = np.random.default_rng(0).normal(0, 0.1, (2, 2 * CHUNK)).astype("f4")


def stems_of(models: Path, mix: Samples = MIX, precision: str = "float32") -> dict[str, Samples]:
    hardware = Hardware(precision=precision, cache=models / registry.CONVERTED)
    loaded = registry.load("mine", WeightStore(models, offline=True), hardware=hardware)
    return join(loaded.separate(mix, Options(overlap=0.5), lambda _: None), loaded.stems)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(BS | {"depth": 1, "skip_connection": True, "linear_transformer_depth": 1}, id="bs"),
        pytest.param(MEL | {"depth": 2, "stereo": False, "num_stems": 2}, id="mel", marks=pytest.mark.long),
    ],
)
def test_stems_equal_those_of_torch(tmp_path: Path, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = network_config_of(model)
    write_folder(tmp_path, "mine", model, config, network=random_network(tmp_path, model, config))
    by_openvino = stems_of(tmp_path)
    loaded = loads(monkeypatch)
    for stem, audio in stems_of(tmp_path).items():
        np.testing.assert_allclose(audio, by_openvino[stem], atol=1e-6)
    assert loaded == []  # the kept network needs no checkpoint
    in_torch(monkeypatch)
    by_torch = stems_of(tmp_path)
    for stem, audio in by_torch.items():
        assert np.abs(audio).max() > 0.01
        np.testing.assert_allclose(by_openvino[stem], audio, atol=1e-5)


def network_config_of(model: dict[str, Any]) -> str:
    return config_text(model, TWO) if model["num_stems"] == 2 else config_text(model)


def random_network(tmp_path: Path, model: dict[str, Any], text: str) -> Any:
    """Our network with random weights, because the reference does not have all variants."""
    from services.separation.models.folders.folder import ModelFolder
    from services.separation.models.roformer.config import kind_of, network_config
    from services.separation.models.roformer.network import RoFormer

    path = tmp_path / "config.yaml"
    path.write_text(text)
    folder = ModelFolder(tmp_path, path, tmp_path / "model.ckpt")
    folder.__dict__["shapes"] = {}
    kind = kind_of(folder)
    assert kind is not None
    torch.manual_seed(0)
    return RoFormer(network_config(folder, kind))


def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows when a checkpoint is loaded."""
    counted: list[int] = []
    load = separator.load_network

    def counting(*arguments: Any) -> Any:
        counted.append(1)
        return load(*arguments)

    monkeypatch.setattr(separator, "load_network", counting)
    return counted


@pytest.mark.long
def test_a_damaged_conversion_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, "mine", BS)
    first, loaded = stems_of(tmp_path), loads(monkeypatch)
    (kept,) = (tmp_path / registry.CONVERTED).glob("*.xml")
    kept.write_text("damaged")
    np.testing.assert_allclose(stems_of(tmp_path)["vocals"], first["vocals"], atol=1e-6)
    assert loaded == [1]
    assert "damaged" not in kept.read_text()


def test_a_short_song_does_not_wait_for_the_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("converted")

    monkeypatch.setattr(OpenVinoNetwork, "_convert", fail)
    write_folder(tmp_path, "mine", BS)
    assert stems_of(tmp_path, MIX[:, :100])["vocals"].shape == (2, 100)
    with pytest.raises(AssertionError, match="converted"):
        stems_of(tmp_path, np.tile(MIX, WORTH_SEGMENTS))
