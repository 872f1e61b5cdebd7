"""Small RoFormers with random weights, as folders that operators drop in."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bs_roformer import BSRoformer, MelBandRoformer

from services.separation.models.segmented import openvino_runtime

RATE = 8000
CHUNK = 4096
BS: dict[str, Any] = {
    "dim": 16, "depth": 2, "stereo": True, "num_stems": 1, "time_transformer_depth": 1, "freq_transformer_depth": 1,
    "freqs_per_bands": (4, 8, 16, 37), "dim_head": 8, "heads": 2, "stft_n_fft": 128, "stft_hop_length": 32,
    "stft_win_length": 128, "mask_estimator_depth": 2, "dim_freqs_in": 65,
}  # fmt: skip
MEL = {name: value for name, value in BS.items() if name != "freqs_per_bands"} | {
    "num_bands": 12, "sample_rate": RATE, "mask_estimator_depth": 1,
}  # fmt: skip
TRAINING = {"instruments": ["vocals", "other"], "target_instrument": "vocals", "lr": 1e-5}


def reference(model: dict[str, Any], seed: int = 0) -> Any:
    """The network of the package BS-RoFormer with random weights, also where it starts with ones."""
    torch.manual_seed(seed)
    network = (BSRoformer if "freqs_per_bands" in model else MelBandRoformer)(**model, flash_attn=False).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("gamma", "bias")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def config_text(model: dict[str, Any], training: dict[str, Any] = TRAINING, **inference: Any) -> str:
    """A configuration as the training program writes it, with tuples."""
    sections = {
        "audio": {"chunk_size": CHUNK, "sample_rate": RATE, "num_channels": 2},
        "model": {**model, "flash_attn": True, "attn_dropout": 0.1},
        "training": training,
        "inference": {"batch_size": 1, "num_overlap": 2, **inference},
    }
    return str(yaml.dump(sections))


def write_folder(
    models: Path, name: str, model: dict[str, Any], text: str = "", network: Any = None, suffix: str = ".ckpt"
) -> Path:
    """Writes a model's folder, and returns it."""
    folder = models / "separation" / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text or config_text(model))
    tensors = (network or reference(model)).state_dict()
    if suffix == ".ckpt":
        torch.save(tensors, folder / "model.ckpt")
    else:
        from safetensors.torch import save_file

        save_file({key: tensor.clone() for key, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs networks in torch, without conversions, which take longer than small networks save."""
    monkeypatch.setattr(openvino_runtime, "why_not", lambda: "this test runs in torch")
