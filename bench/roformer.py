"""Measures RoFormers: `python -m bench.roformer [--model kim] [--repeats 3] [--device cpu]`.

In one run, in turns, it measures one segment (8 s of noise) with a network of a published size and random weights: by
the package BS-RoFormer with its fused attention, by ours in torch, and by ours as it is used, in float32 and in the
precision of `auto` if that is another. It prints seconds, the share of the package's time, and the largest error.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from bs_roformer import BSRoformer, MelBandRoformer
from torch import Tensor

from services.separation.models.base import Hardware
from services.separation.models.folders.folder import ModelFolder
from services.separation.models.roformer import separator
from services.separation.models.roformer.config import inference_config, kind_of, network_config
from services.separation.models.roformer.torch_network import TorchNetwork
from services.separation.models.segmented.precision import precision_of

CHUNK = 352_800
COMMON: dict[str, Any] = {
    "depth": 12, "stereo": True, "time_transformer_depth": 1, "freq_transformer_depth": 1, "dim_head": 64, "heads": 8,
    "stft_hop_length": 441, "mask_estimator_depth": 2,
}  # fmt: skip
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "viperx": (BSRoformer, COMMON | {"dim": 512}),
    "kim": (MelBandRoformer, COMMON | {"dim": 384, "depth": 6, "num_bands": 60}),
}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="kim")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.model, arguments.repeats, arguments.device)


@torch.inference_mode()
def measure(folder: Path, name: str, repeats: int, device: str) -> None:
    """Measures all ways in turns."""
    kind, model = MODELS[name]
    torch.manual_seed(0)
    reference = kind(**model, flash_attn=True).eval()
    wave = torch.randn(1, 2, CHUNK) * 0.1
    torch.save(reference.state_dict(), folder / "model.ckpt")
    reference.to(device)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"package BS-RoFormer": lambda batch: reference(batch.to(device))}
    ways |= {
        "ours, torch": ours(folder, model, Hardware(device, "float32"), in_torch=True),
        "ours, float32": ours(folder, model, Hardware(device, "float32")),
    }
    if (precision := precision_of(torch.device(device), "auto")) != "float32":
        ways[f"ours, {precision}"] = ours(folder, model, Hardware(device, "auto"))
    outputs = {way: compute(wave).cpu().flatten() for way, compute in ways.items()}  # also warms them up
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, compute in ways.items():
            began = time.perf_counter()
            compute(wave).cpu()
            seconds[way].append(time.perf_counter() - began)
    expected = outputs["package BS-RoFormer"]
    base = statistics.median(seconds["package BS-RoFormer"])
    print(
        f"{name}, {CHUNK / 44_100:g} s, {device}, {torch.get_num_threads()} threads; loudest {expected.abs().max():.2g}"
    )
    for way, took in seconds.items():
        median, error = statistics.median(took), (outputs[way] - expected).abs().max()
        print(f"{way:22}{median:8.2f} s{median / base:8.2f}   error {error:.1e}   {min(took):.2f} to {max(took):.2f} s")


def ours(folder: Path, model: dict[str, Any], hardware: Hardware, *, in_torch: bool = False) -> Any:
    """Our network, as `load` chooses it, or in torch."""
    training = {"instruments": ["vocals"], "target_instrument": "vocals"}
    sections = {"model": model | {"zero_dc": False}, "training": training, "inference": {"chunk_size": CHUNK}}
    (folder / "config.yaml").write_text(yaml.dump(sections))
    dropped = ModelFolder(folder, folder / "config.yaml", folder / "model.ckpt")
    kind = kind_of(dropped)
    assert kind is not None
    config, chunk = network_config(dropped, kind), inference_config(dropped).chunk
    if in_torch:
        device = torch.device(hardware.device)
        loaded = separator.load_network(config, dropped.checkpoint)
        return TorchNetwork(loaded, config, chunk, device, "float32")
    network = separator.network_of(config, chunk, dropped.checkpoint, hardware, hardware.precision)
    network.prepare(1000)
    return network


if __name__ == "__main__":
    main()
