"""RoFormers equal those of the package BS-RoFormer, and songs are cut as Music-Source-Separation-Training cuts them."""

import itertools
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from services.common.errors import StoppedError
from services.common.samples import Samples
from services.common.weights.store import WeightStore
from services.separation.models import registry
from services.separation.models.base import Options, join
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.roformer.bands import mel_bands
from services.separation.models.roformer.config import RoFormerConfig, kind_of, network_config
from services.separation.models.roformer.layers import LinearAttention
from services.separation.models.roformer.network import RoFormer, Transforms
from services.separation.models.roformer.parameters import parameters
from services.separation.presets import of_quality
from stemtube.separation.v1 import separation_pb2 as pb
from tests.separation.roformers import BS, CHUNK, MEL, RATE, config_text, in_torch, reference, write_folder

OVERLAP = Options(overlap=0.5)
VIPERX = {
    "dim": 512, "depth": 12, "stereo": True, "num_stems": 1, "time_transformer_depth": 1, "freq_transformer_depth": 1,
    "dim_head": 64, "heads": 8, "dim_freqs_in": 1025, "stft_n_fft": 2048, "stft_hop_length": 441,
    "stft_win_length": 2048, "mask_estimator_depth": 2,
    "freqs_per_bands": (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129),
}  # fmt: skip
KIM = {key: value for key, value in VIPERX.items() if key != "freqs_per_bands"} | {
    "dim": 384, "depth": 6, "num_bands": 60, "sample_rate": 44_100,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    in_torch(monkeypatch)


def noise(samples: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0.01, 0.1, (2, samples)).astype("f4")


def loaded(tmp_path: Path, model: dict[str, Any], network: Any, text: str = "") -> Any:
    write_folder(tmp_path, "mine", model, text, network)
    return registry.load("mine", WeightStore(tmp_path, offline=True))


def config_of(tmp_path: Path, model: dict[str, Any]) -> RoFormerConfig:
    (tmp_path / "config.yaml").write_text(config_text(model))
    folder = ModelFolder(tmp_path, tmp_path / "config.yaml", tmp_path / "model.ckpt")
    kind = kind_of(folder)
    assert kind is not None
    folder.__dict__["shapes"] = {}
    return network_config(folder, kind)


def stems_of(config: RoFormerConfig, tensors: dict[str, Tensor], waves: Tensor) -> Tensor:
    network = RoFormer(config).eval()
    network.load_state_dict(tensors)
    transforms = Transforms(config, torch.device("cpu"))
    with torch.inference_mode():
        spectrum, values = transforms.split(waves)
        return transforms.join(spectrum, network(values), waves.shape[-1])


def equals_reference(tmp_path: Path, model: dict[str, Any], samples: int) -> None:
    network, config = reference(model), config_of(tmp_path, {**model, "zero_dc": False})
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == parameters(config)
    waves = torch.from_numpy(np.stack([noise(samples, seed) for seed in range(2 if samples == CHUNK else 1)]))
    with torch.inference_mode():
        expected = network(waves if config.channels == 2 else waves[:, :1])
    stems = stems_of(config, network.state_dict(), waves if config.channels == 2 else waves[:, :1])
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(stems, expected.reshape(stems.shape), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (BS, {}),
        (BS, {"num_stems": 3, "mask_estimator_depth": 1, "time_transformer_depth": 2}),
        (BS, {"freq_transformer_depth": 3, "dim_head": 4, "heads": 3, "depth": 1, "stft_normalized": True}),
        (BS, {"stereo": False, "mask_estimator_depth": 3}),
        (MEL, {}),
        (MEL, {"num_stems": 2, "mask_estimator_depth": 3, "time_transformer_depth": 2}),
        (MEL, {"stereo": False, "num_bands": 9, "depth": 1}),
    ],
)
def test_networks_equal_those_of_the_reference(tmp_path: Path, base: dict[str, Any], changes: dict[str, Any]) -> None:
    equals_reference(tmp_path, base | changes, CHUNK)


@pytest.mark.long
@pytest.mark.parametrize("model", [VIPERX, KIM], ids=["viperx", "kim"])
def test_networks_of_the_published_sizes_equal_those_of_the_reference(tmp_path: Path, model: dict[str, Any]) -> None:
    equals_reference(tmp_path, model, 44_100)


@pytest.mark.parametrize(("rate", "n_fft", "count"), [(44_100, 2048, 60), (44_100, 4096, 64), (RATE, 128, 12)])
def test_mel_bands_equal_those_of_librosa(rate: int, n_fft: int, count: int) -> None:
    filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=count) > 0
    filters[0, 0] = filters[-1, -1] = True
    assert mel_bands(rate, n_fft, count) == tuple(tuple(np.flatnonzero(band)) for band in filters)


def test_skip_connections_add_the_outputs_of_earlier_blocks(tmp_path: Path) -> None:
    model = BS | {"depth": 3}
    network = reference(model)
    waves = torch.from_numpy(noise(CHUNK))[None]
    outputs: list[Tensor] = []

    def add_earlier(_module: Any, inputs: tuple[Tensor]) -> Tensor:
        frames, batch, bands = CHUNK // 32 + 1, 1, len(model["freqs_per_bands"])
        along_time = sum(outputs, torch.zeros(batch, frames, bands, model["dim"]))
        return inputs[0] + along_time.transpose(1, 2).flatten(0, 1)

    for block in network.layers:
        time, freq = block
        time.register_forward_pre_hook(add_earlier)
        freq.register_forward_hook(lambda _module, _inputs, output: outputs.append(output[None]))
    with torch.inference_mode():
        expected = network(waves)
    config = config_of(tmp_path, {**model, "skip_connection": True, "zero_dc": False})
    stems = stems_of(config, network.state_dict(), waves)
    torch.testing.assert_close(stems, expected.reshape(stems.shape), atol=1e-5, rtol=1e-4)


def test_linear_attention_attends_between_features(tmp_path: Path) -> None:
    config = config_of(tmp_path, BS | {"linear_transformer_depth": 1})
    torch.manual_seed(0)
    layer: Any = LinearAttention(config)
    x = torch.randn(2, 30, config.dim)
    with torch.no_grad():
        layer.temperature.uniform_(-1, 1)
    result = layer(x, None)
    unit = normalize(x, dim=-1) * config.dim**0.5 * layer.norm.gamma
    expected = torch.zeros(2, 30, config.heads * config.dim_head)
    for head in range(config.heads):
        rows = torch.arange(head * config.dim_head, (head + 1) * config.dim_head)
        query, key, value = (
            unit @ layer.to_qkv[0].weight[part * config.heads * config.dim_head + rows].t() for part in range(3)
        )
        query, key = (each / each.norm(dim=1, keepdim=True) for each in (query, key))  # over the positions
        scores = 8 * layer.temperature[head].exp() * query.transpose(1, 2) @ key
        expected[..., rows] = (scores.softmax(-1) @ value.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(result, layer.to_out(expected), atol=1e-5, rtol=1e-4)
    names = {name for name in parameters(config) if name.startswith("layers.0.0.layers.0.0.")}
    assert names == {f"layers.0.0.layers.0.0.{name}" for name in layer.state_dict()}


def test_shared_biases_are_those_of_all_attention_layers(tmp_path: Path) -> None:
    network, config = reference(BS), config_of(tmp_path, BS | {"use_shared_bias": True, "zero_dc": False})
    inner = BS["heads"] * BS["dim_head"]
    biases = {"linear_62_bias_0": torch.randn(3 * inner), "linear_64_bias_0": torch.randn(BS["dim"])}
    tensors = network.state_dict() | biases
    waves = torch.from_numpy(noise(CHUNK))[None]
    for block in network.layers:
        for transformer in block:
            for attention, _ in transformer.layers:
                attention.to_qkv.bias = torch.nn.Parameter(biases["linear_62_bias_0"])
                attention.to_out[0].bias = torch.nn.Parameter(biases["linear_64_bias_0"])
    with torch.inference_mode():
        expected = network(waves)
    stems = stems_of(config, tensors, waves)
    torch.testing.assert_close(stems, expected.reshape(stems.shape), atol=1e-5, rtol=1e-4)
    # Checkpoints may have the biases of each layer as well.
    for name, bias in biases.items():
        network.register_parameter(name, torch.nn.Parameter(bias))
    separator = loaded(tmp_path, BS, network, config_text(BS | {"use_shared_bias": True}))
    assert separator.stems == ("vocals", "instrumental")


@pytest.mark.parametrize("model", [BS, MEL], ids=["bs", "mel"])
def test_zero_dc_silences_the_lowest_bin(
    tmp_path: Path, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, waves = reference(model), torch.from_numpy(noise(CHUNK) + 0.5)[None]
    silenced = stems_of(config_of(tmp_path, model), network.state_dict(), waves)  # the default, as in training
    plain = stems_of(config_of(tmp_path, model | {"zero_dc": False}), network.state_dict(), waves)
    inverse = torch.istft

    def without_dc(spectrum: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return inverse(spectrum.index_fill(1, torch.tensor(0), 0.0), *arguments, **options)

    monkeypatch.setattr(torch, "istft", without_dc)
    with torch.inference_mode():
        expected = network(waves).reshape(silenced.shape)
    torch.testing.assert_close(silenced, expected, atol=1e-5, rtol=1e-4)
    assert (plain - silenced).abs().max() > 1e-3


def demix(network: Any, mix: Samples, chunk: int, overlaps: int) -> Samples:
    """The algorithm of Music-Source-Separation-Training's `demix` for whole songs, with a batch of one."""
    fade, step = chunk // 10, chunk // overlaps
    border = chunk - step
    wave = torch.from_numpy(mix)
    padded = mix.shape[1] > 2 * border
    if padded:
        wave = pad(wave, (border, border), mode="reflect")
    total, weights = torch.zeros(1, *wave.shape), torch.zeros(wave.shape[1])
    for start in range(0, wave.shape[1], step):
        part = wave[:, start : start + chunk]
        length = part.shape[1]
        part = pad(part, (0, chunk - length), mode="reflect" if length > chunk // 2 else "constant")
        window = torch.ones(chunk)
        if start > 0:
            window[:fade] = torch.linspace(0, 1, fade)
        if start + step < wave.shape[1]:
            window[-fade:] = torch.linspace(1, 0, fade)
        with torch.inference_mode():
            output = network(part[None]).reshape(1, 2, -1)
        total[..., start : start + length] += output[..., :length] * window[:length]
        weights[start : start + length] += window[:length]
    result = (total / weights).nan_to_num()[0].numpy()
    return result[:, border:-border] if padded else result


@pytest.mark.parametrize("overlaps", [2, 3, 4])
@pytest.mark.parametrize("samples", [1, 1000, CHUNK, CHUNK + 700, 2 * CHUNK + 1, 30_011])
def test_songs_are_cut_and_joined_as_the_training_program_does_it(tmp_path: Path, overlaps: int, samples: int) -> None:
    model = BS | {"depth": 1, "dim": 8}
    network, mix = reference(model), noise(samples)
    separator = loaded(tmp_path, model | {"zero_dc": False}, network)
    stems = join(separator.separate(mix, Options(overlap=1 - 1 / overlaps), lambda _: None), separator.stems)
    np.testing.assert_allclose(stems["vocals"], demix(network, mix, CHUNK, overlaps), atol=1e-6)
    np.testing.assert_allclose(stems["vocals"] + stems["instrumental"], mix, atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.00025, 0.05, 0.1, 0.25])
def test_small_overlaps_leave_no_gap(tmp_path: Path, overlap: float) -> None:
    network, mix = reference(BS), noise(30_000)
    separator = loaded(tmp_path, BS, network)
    vocals = join(separator.separate(mix, Options(overlap=overlap), lambda _: None), ["vocals"])["vocals"]
    assert vocals.shape == mix.shape
    assert np.isfinite(vocals).all()
    assert np.lib.stride_tricks.sliding_window_view(np.abs(vocals), 64, axis=1).max(axis=-1).min() > 0


def test_a_mix_is_normalised_only_if_the_configuration_says_so(tmp_path: Path) -> None:
    network, mix = reference(BS), noise(CHUNK) * 3 + 1
    tensors = {}
    for name, normal in (("raw", False), ("normal", True)):
        write_folder(tmp_path, name, BS, config_text(BS | {"zero_dc": False}, normalize=normal), network)
        separator = registry.load(name, WeightStore(tmp_path, offline=True))
        tensors[name] = join(separator.separate(mix, OVERLAP, lambda _: None), separator.stems)["vocals"]
    np.testing.assert_allclose(tensors["raw"], demix(network, mix, CHUNK, 2), atol=1e-5)
    mean, deviation = mix.mean(0).mean(), mix.mean(0).std()
    expected = demix(network, (mix - mean) / deviation, CHUNK, 2) * deviation + mean
    np.testing.assert_allclose(tensors["normal"], expected, atol=1e-3)


def test_a_model_of_one_channel_separates_both_channels(tmp_path: Path) -> None:
    model = BS | {"stereo": False, "num_stems": 2}
    network, mix = reference(model), noise(CHUNK)
    text = config_text(model | {"zero_dc": False}, {"instruments": ["drums", "bass"], "target_instrument": None})
    separator = loaded(tmp_path, model, network, text)
    assert separator.stems == ("drums", "bass")
    stems = join(separator.separate(mix, Options(overlap=0), lambda _: None), separator.stems)
    with torch.inference_mode():
        expected = network(torch.from_numpy(mix)[:, None])  # [channel, stem, 1, sample]
    for number, stem in enumerate(separator.stems):
        np.testing.assert_allclose(stems[stem], expected[:, number, 0].numpy(), atol=1e-5)


def test_progress_is_even_and_can_stop_the_work_and_memory_does_not_grow(tmp_path: Path) -> None:
    separator = loaded(tmp_path, BS, reference(BS))
    seen: list[float] = []
    chunks = separator.separate(noise(10 * CHUNK), OVERLAP, seen.append)
    first = next(chunks)
    assert first.start == 0
    assert 0 < first.samples <= CHUNK
    assert seen[-1] < 0.2  # the first sound is there before most of the song is computed
    assert all(chunk.samples <= CHUNK for chunk in chunks)
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert all(earlier <= later for earlier, later in itertools.pairwise(seen))

    def stop(fraction: float) -> None:
        if fraction > 0.3:
            raise StoppedError("enough")

    with pytest.raises(StoppedError):
        list(separator.separate(noise(10 * CHUNK), OVERLAP, stop))
    wanted = Options(overlap=0.5, stems=("instrumental",))
    assert join(separator.separate(noise(9), wanted, lambda _: None), ["instrumental"])["instrumental"].shape == (2, 9)


def test_the_recommended_overlap_is_that_of_the_balanced_quality() -> None:
    assert of_quality(pb.QUALITY_BALANCED, 0.75).overlap == 0.75
    assert of_quality(pb.QUALITY_UNSPECIFIED, 0.0).overlap == 0.0
    assert of_quality(pb.QUALITY_BEST, 0.75).overlap == 0.75
    assert of_quality(pb.QUALITY_BEST, 0.25).overlap == 0.5
    assert of_quality(pb.QUALITY_FAST, 0.75) == of_quality(pb.QUALITY_FAST, None) == Options(overlap=0.1)
    assert of_quality(pb.QUALITY_BALANCED, None).overlap == 0.25
