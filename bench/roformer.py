"""Measures RoFormers: `python -m bench.roformer [--model kim] [--depth 6] [--seconds 8] [--repeats 3]`.

In one run, in turns, it measures one segment of noise with a network of a published size and random weights: by
the package BS-RoFormer with its fused attention, by ours in torch, and by ours as it is used, in float32 and in the
precision of `auto` if that is another. It prints seconds and CPU seconds, their shares of the package's, and the
largest error. `--depth` takes fewer blocks, where memory or time is short.
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
from services.separation.models.folders.inference import inference_config
from services.separation.models.roformer import separator
from services.separation.models.roformer.config import kind_of, network_config
from services.separation.models.roformer.torch_network import TorchNetwork
from services.separation.models.segmented.precision import precision_of

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
    parser.add_argument("--depth", type=int, help="number of blocks, if not that of the published size")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments)


@torch.inference_mode()
def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Measures all ways in turns."""
    device, samples = arguments.device, int(arguments.seconds * 100) * 441
    kind, model = MODELS[arguments.model]
    model = model | ({"depth": arguments.depth} if arguments.depth else {})
    torch.manual_seed(0)
    reference = kind(**model, flash_attn=True).eval()
    wave = torch.randn(1, 2, samples) * 0.1
    torch.save(reference.state_dict(), folder / "model.ckpt")
    reference.to(device)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"package BS-RoFormer": lambda batch: reference(batch.to(device))}
    ways |= {
        "ours, torch": ours(folder, model, samples, Hardware(device, "float32"), in_torch=True),
        "ours, float32": ours(folder, model, samples, Hardware(device, "float32")),
    }
    if (precision := precision_of(torch.device(device), "auto")) != "float32":
        ways[f"ours, {precision}"] = ours(folder, model, samples, Hardware(device, "auto"))
    outputs = {way: compute(wave).cpu().flatten() for way, compute in ways.items()}  # also warms them up
    wall: dict[str, list[float]] = {way: [] for way in ways}
    busy: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.repeats):
        for way, compute in ways.items():
            began, cpu = time.perf_counter(), time.process_time()
            compute(wave).cpu()
            wall[way].append(time.perf_counter() - began)
            busy[way].append(time.process_time() - cpu)
    first, *_ = ways
    expected = outputs[first]
    print(f"{arguments.model}, {model['depth']} blocks, {samples / 44_100:g} s, {device}")
    print(f"{'':22}{'s':>8}{'share':>8}{'CPU s':>8}{'share':>8}   error, loudest {expected.abs().max():.2g}")
    for way in ways:
        took, used = statistics.median(wall[way]), statistics.median(busy[way])
        shares = took / statistics.median(wall[first]), used / statistics.median(busy[first])
        error = (outputs[way] - expected).abs().max()
        print(f"{way:22}{took:8.2f}{shares[0]:8.2f}{used:8.2f}{shares[1]:8.2f}   {error:.1e}")


def ours(folder: Path, model: dict[str, Any], samples: int, hardware: Hardware, *, in_torch: bool = False) -> Any:
    """Our network, as `load` chooses it, or in torch."""
    training = {"instruments": ["vocals"], "target_instrument": "vocals"}
    sections = {"model": model | {"zero_dc": False}, "training": training, "inference": {"chunk_size": samples}}
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
