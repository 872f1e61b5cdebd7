"""MDX-Net: networks in ONNX files, with the parameters of Ultimate Vocal Remover's list."""

import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor, nn

from services.common.errors import PreconditionError, StoppedError, WeightsMissingError
from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Options, Progress, join
from services.separation.models.mdx_net import parameters
from services.separation.models.mdx_net.network import OnnxCore
from services.separation.models.mdx_net.onnx_file import Ports, read_ports
from services.separation.models.mdx_net.parameters import HOP, Parameters, read_parameters
from tests.separation.formula import fill, noise

CONFIG = {
    "mdx_n_fft_scale_set": 2048, "mdx_dim_f_set": 64, "mdx_dim_t_set": 4, "compensate": 1.25, "primary_stem": "Vocals"
}  # fmt: skip
SMALL = read_parameters(CONFIG)
USEFUL = HOP * (SMALL.frames - 1) - SMALL.n_fft
"""Samples of a segment without its margins."""


class SmallNet(nn.Module):
    """A TFC-TDF block of the second version between two scales: the layers of the published networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, 12, 2, 2), nn.BatchNorm2d(12), nn.ReLU())
        self.tfc = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.tdf = nn.Sequential(nn.Linear(32, 8), nn.BatchNorm2d(12), nn.ReLU(), nn.Linear(8, 32), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(12, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, spectrum: Tensor) -> Tensor:
        x = first = self.first(spectrum).transpose(2, 3)
        x = self.tfc(self.down(x))
        x = self.up(x + self.tdf(x)) * first
        result: Tensor = self.last(x.transpose(2, 3))
        return result


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the published ones: exported by torch, the number of segments left open."""
    path = tmp_path_factory.mktemp("mdx") / "small.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            fill(SmallNet()),
            (torch.zeros(1, 4, SMALL.bins, SMALL.frames),),
            path,
            dynamo=False,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        )
    return path


def song(samples: int) -> Samples:
    return (0.3 * noise(2, samples)).astype(np.float32)


def independent(file: Path, mix: Samples) -> Samples:
    """The stem as KUIELab's code makes it: segments side by side, with margins that are cut off, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    margin, chunk = SMALL.n_fft // 2, HOP * (SMALL.frames - 1)
    useful = chunk - 2 * margin
    missing = -mix.shape[1] % useful
    padded = np.pad(mix, ((0, 0), (margin, missing + margin)))
    window = torch.hann_window(SMALL.n_fft)
    parts = []
    for start in range(0, mix.shape[1], useful):
        piece = torch.from_numpy(padded[:, start : start + chunk])
        spectrum = torch.stft(piece, SMALL.n_fft, HOP, window=window, return_complex=True)
        inputs = torch.view_as_real(spectrum[:, : SMALL.bins]).permute(0, 3, 1, 2).reshape(1, 4, SMALL.bins, -1).numpy()
        inputs[:, :, :3] = 0
        (outputs,) = session.run(None, {"input": inputs})
        full = np.zeros((2, 2, SMALL.n_fft // 2 + 1, SMALL.frames), np.float32)
        full[:, :, : SMALL.bins] = outputs.reshape(2, 2, SMALL.bins, SMALL.frames)
        wave = torch.istft(torch.complex(*torch.from_numpy(full).unbind(1)), SMALL.n_fft, HOP, window=window)
        parts.append(wave[:, margin:-margin].numpy())
    return np.concatenate(parts, axis=1)[:, : mix.shape[1]]


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """The folder of the model `mine` in a models directory."""
    folder = tmp_path / "separation" / "mine"
    folder.mkdir(parents=True)
    shutil.copy(exported, folder)
    configure(folder)
    return folder


def configure(folder: Path, **changes: Any) -> None:
    """Writes a configuration: the values of Ultimate Vocal Remover's list."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | changes))


def store(folder: Path) -> WeightStore:
    return WeightStore(folder.parents[1], offline=True)


def separated(folder: Path, mix: Samples, options: Options, progress: Progress = lambda _: None) -> dict[str, Samples]:
    separator = registry.load("mine", store(folder))
    return join(separator.separate(mix, options, progress), separator.stems)


def test_a_dropped_in_file_gives_what_the_authors_code_gives(folder: Path) -> None:
    mix = song(3 * USEFUL)
    stems = separated(folder, mix, Options(overlap=0))
    expected = independent(folder / "small.onnx", mix)
    assert expected.std() > 0.003
    np.testing.assert_allclose(stems["vocals"], expected, atol=1e-5)
    np.testing.assert_allclose(stems["instrumental"], mix - 1.25 * expected, atol=1e-5)


def test_overlapping_segments_differ_from_those_side_by_side_only_near_their_joints(folder: Path) -> None:
    mix = song(3 * USEFUL)
    apart, joined = (separated(folder, mix, Options(overlap=overlap))["vocals"] for overlap in (0, 0.25))
    # The network sees four frames around a sample; the second segment starts three quarters into the first.
    inside = slice(8 * HOP, int(0.75 * USEFUL) - 8 * HOP)
    np.testing.assert_allclose(joined[:, inside], apart[:, inside], atol=1e-5)
    assert joined.shape == apart.shape


def test_progress_rises_to_1_and_stops_the_work(folder: Path) -> None:
    seen: list[float] = []
    separated(folder, song(3 * USEFUL), Options(overlap=0), seen.append)
    assert seen == [0, *(pytest.approx(number / 3) for number in (1, 2, 3))]

    def stop(fraction: float) -> None:
        if fraction > 0:
            raise StoppedError("enough")

    with pytest.raises(StoppedError):
        separated(folder, song(3 * USEFUL), Options(), stop)


def test_the_network_gets_no_bins_below_the_third(exported: Path) -> None:
    core = OnnxCore(exported, read_parameters(CONFIG))
    spectrum = torch.from_numpy(noise(1, 4, SMALL.bins, SMALL.frames)).float()
    changed = spectrum.clone()
    changed[:, :, :3] = 7
    assert torch.equal(core(spectrum), core(changed))
    changed[:, :, 3] = 7
    assert not torch.equal(core(spectrum), core(changed))


@pytest.mark.parametrize(
    ("primary", "stems"),
    [
        ("Vocals", ("vocals", "instrumental")),
        ("Instrumental", ("instrumental", "vocals")),
        ("Drums", ("drums", "other")),
        ("Other", ("other", "rest")),
        ("Reverb", ("reverb", "other")),
        ("No Crowd", ("other", "crowd")),
    ],
)
def test_stems_are_named_after_the_list(folder: Path, primary: str, stems: tuple[str, str]) -> None:
    configure(folder, primary_stem=primary)
    entry = registry.entry("mine", store(folder))
    assert (entry.family, entry.stems, entry.fault) == ("mdx_net", stems, "")


def test_a_published_file_needs_no_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.yaml").unlink()
    digest = hashlib.md5((folder / "small.onnx").read_bytes()).hexdigest()
    fault = registry.entry("mine", store(folder)).fault
    assert f"small.onnx is not in the list of published models (MD5 of its last 10,000 KiB: {digest})" in fault
    assert "put a config.yaml with mdx_n_fft_scale_set, " in fault
    monkeypatch.setattr(parameters, "_published", lambda: {digest: CONFIG})
    os.utime(folder / "small.onnx", ns=(1, 1))  # a folder is described again only if its files have changed
    assert registry.entry("mine", store(folder)).stems == ("vocals", "instrumental")
    stems = separated(folder, song(1000), Options())
    assert list(stems) == ["vocals", "instrumental"]


def test_the_list_has_the_published_models() -> None:
    published = {digest: read_parameters(values) for digest, values in parameters._published().items()}
    assert len(published) == 44
    assert published["970b3f9492014d18fefeedfe4773cb42"] == Parameters(7680, 3072, 256, 1.009, "Vocals")  # Kim_Vocal_2
    assert all(digest == digest.lower() and len(digest) == 32 for digest in published)


def test_only_the_end_of_a_large_file_counts_for_the_list(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    end = bytes(range(256)) * 40_000
    path.write_bytes(b"begin" + end)
    assert parameters.end_md5(path) == hashlib.md5(end).hexdigest()


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a missing value": (
        lambda folder: configure(folder, compensate=None),
        "config.yaml: `compensate` is missing; a configuration of MDX-Net has mdx_n_fft_scale_set, mdx_dim_f_set, ",
    ),
    "another kind of value": (
        lambda folder: configure(folder, mdx_dim_t_set="4"),
        "config.yaml: `mdx_dim_t_set` cannot be '4'",
    ),
    "too many bins": (
        lambda folder: configure(folder, mdx_n_fft_scale_set=2048, mdx_dim_f_set=2000),
        "`mdx_dim_f_set` must be at most half of `mdx_n_fft_scale_set` = 2048",
    ),
    "frames in place of their logarithm": (
        lambda folder: configure(folder, mdx_dim_t_set=256),
        "`mdx_dim_t_set` is the binary logarithm of the frames, such as 8, not 256",
    ),
    "segments without an inside": (
        lambda folder: configure(folder, mdx_n_fft_scale_set=16384),
        "`mdx_dim_t_set` 4 is too small for `mdx_n_fft_scale_set` 16384",
    ),
    "another model's configuration": (
        lambda folder: configure(folder, mdx_dim_f_set=128),
        r"small.onnx does not fit config.yaml: its network takes 4x64x16 \(parts x bins x frames\), but mdx_dim_f_set "
        "and mdx_dim_t_set ask for 4x128x16",
    ),
    "a broken download": (
        lambda folder: (folder / "small.onnx").write_bytes((folder / "small.onnx").read_bytes()[:2000]),
        "small.onnx is damaged, or not an ONNX file: it ends in the middle; fetch it again",
    ),
    "another file": (
        lambda folder: (folder / "small.onnx").write_text("<html>not found</html>"),
        "small.onnx is damaged, or not an ONNX file: ",
    ),
    "an empty file": (lambda folder: (folder / "small.onnx").write_bytes(b""), "not an ONNX file: it has no network"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_folder_that_cannot_be_used_says_what_is_wrong(folder: Path, name: str) -> None:
    spoil, message = FAULTS[name]
    spoil(folder)
    entry = registry.entry("mine", store(folder))
    assert re.search(f"separation/mine of the models directory: .*{message}", entry.fault)
    with pytest.raises(WeightsMissingError, match=message):
        registry.load("mine", store(folder))


def test_a_network_that_openvino_cannot_use_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "small.onnx")
    model.graph.node[0].op_type = "Unheard"
    onnx.save(model, folder / "small.onnx")
    with pytest.raises(PreconditionError, match=r"OpenVINO cannot load small\.onnx: "):
        registry.load("mine", store(folder))


def test_inputs_and_outputs_are_read_as_by_the_library_for_onnx(exported: Path, tmp_path: Path) -> None:
    assert read_ports(exported) == Ports({"input": (None, 4, 64, 16)}, {"output": (None, 4, 64, 16)})
    model = onnx.load(exported)
    weight = model.graph.initializer[0]
    listed = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
    model.graph.input.append(listed)  # as exporters did until 2019
    onnx.save(model, tmp_path / "old.onnx")
    assert read_ports(tmp_path / "old.onnx") == read_ports(exported)
