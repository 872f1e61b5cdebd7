"""Cores of spectral networks: converted by OpenVINO and kept, or in torch with half precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from services.separation.models.base import Hardware
from services.separation.models.mdx23c.architecture import Architecture as Mdx23cArchitecture
from services.separation.models.mdx23c.network import Network as Mdx23c
from services.separation.models.scnet.architecture import Architecture as ScnetArchitecture
from services.separation.models.scnet.network import Network as Scnet
from services.separation.models.segmented import openvino_core
from services.separation.models.segmented.openvino_core import WORTH_SEGMENTS, OpenVinoCore, core_of
from services.separation.models.segmented.spectral_network import TorchCore
from tests.separation.formula import fill, noise

pytest.importorskip("openvino", reason="openvino is not installed: networks run in torch")
BINS, FRAMES = 64, 12


def mdx23c() -> nn.Module:
    sizes = Mdx23cArchitecture(
        stems=2, num_channels=8, growth=8, num_scales=1, scale=(2, 2), num_blocks_per_scale=1, bottleneck_factor=4,
        num_subbands=4, norm="InstanceNorm", act="gelu", dim_f=BINS, n_fft=128, hop_length=32,
    )  # fmt: skip
    return fill(Mdx23c(sizes))


def scnet(masked: bool = False) -> nn.Module:
    sizes = ScnetArchitecture(
        stems=2, dims=(4, 8, 12), nfft=2 * BINS - 2, hop_size=32, win_size=126, num_dplayer=2, masked=masked
    )  # fmt: skip
    return fill(Scnet(sizes))


def spectrum(segments: int = 1) -> Tensor:
    return torch.from_numpy(noise(segments, 4, BINS, FRAMES)).float()


def converted(module: nn.Module, folder: Path | None, version: str = "v1") -> OpenVinoCore:
    core = OpenVinoCore(module, BINS, FRAMES, 4, "float32", folder, version)
    core.prepare(WORTH_SEGMENTS)
    return core


@torch.inference_mode()
def reference(module: nn.Module, batch: Tensor) -> Tensor:
    result: Tensor = module(batch)
    return result


def refuse(*_arguments: Any) -> None:
    raise AssertionError("it was converted again")


def test_a_converted_network_gives_what_torch_gives_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference(mdx23c(), spectrum(2))
    torch.testing.assert_close(converted(mdx23c(), tmp_path)(spectrum(2)), expected, atol=2e-5, rtol=0)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".xml"]
    monkeypatch.setattr(OpenVinoCore, "_convert", refuse)
    core = OpenVinoCore(mdx23c(), BINS, FRAMES, 4, "float32", tmp_path, "v1")
    core.prepare(1)  # however short the song, for it is quick now
    torch.testing.assert_close(core(spectrum(2)), expected, atol=2e-5, rtol=0)
    with pytest.raises(AssertionError, match="converted again"):
        converted(mdx23c(), tmp_path, "v2")


@pytest.mark.long
@pytest.mark.parametrize("masked", [False, True])
def test_an_scnet_converts_with_its_lstms_and_transforms(masked: bool) -> None:
    expected = reference(scnet(masked), spectrum(2))
    torch.testing.assert_close(converted(scnet(masked), None)(spectrum(2)), expected, atol=2e-5, rtol=0)


@pytest.mark.long
def test_a_damaged_converted_network_is_converted_again(tmp_path: Path) -> None:
    converted(mdx23c(), tmp_path)
    (path,) = tmp_path.glob("*.bin")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    expected = reference(mdx23c(), spectrum())
    torch.testing.assert_close(converted(mdx23c(), tmp_path)(spectrum()), expected, atol=2e-5, rtol=0)
    assert path.stat().st_size == size


def test_a_short_first_song_does_not_wait_for_the_conversion(tmp_path: Path) -> None:
    core = core_of(mdx23c(), BINS, FRAMES, 4, Hardware(cache=tmp_path), "v1")
    core.prepare(WORTH_SEGMENTS - 1)
    assert torch.equal(core(spectrum()), reference(mdx23c(), spectrum()))
    assert not list(tmp_path.iterdir())


def test_without_openvino_networks_run_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_core, "why_not", lambda: "the Python package openvino is not installed")
    core = core_of(mdx23c(), BINS, FRAMES, 4, Hardware(), "v1")
    assert isinstance(core, TorchCore)
    assert torch.equal(core(spectrum()), reference(mdx23c(), spectrum()))


@pytest.mark.parametrize("make", [mdx23c, scnet, lambda: scnet(masked=True)], ids=["mdx23c", "scnet", "masked scnet"])
def test_bfloat16_in_torch_stays_close_enough(make: Callable[[], nn.Module]) -> None:
    expected = reference(make(), spectrum())
    result = TorchCore(make(), torch.device("cpu"), torch.bfloat16)(spectrum())
    error = 20 * torch.log10(torch.linalg.norm(result - expected) / torch.linalg.norm(expected))
    assert -80 < error < -30
