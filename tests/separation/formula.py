"""Weights and waves by a formula, and figures of outputs, to compare networks that cannot run side by side.

A network whose code is not a dependency of this project was filled by `fill` and run on `noise` outside of it. Its
`figures` are in `reference_figures.json`. Any other output of ours has other figures.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor, nn

PROJECTIONS = 4


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Numbers from -1 to 1 without order, the same on every machine."""
    count = np.arange(int(np.prod(shape)), dtype=np.float64)
    fraction = np.modf(np.sin(count * 12.9898 + seed * 78.233) * 43758.5453)[0]
    return (2 * np.abs(fraction) - 1).reshape(shape)


def fill(network: nn.Module) -> nn.Module:
    """Gives each tensor of a network numbers by its place among their names, so that signals keep their level."""
    state = network.state_dict()
    for seed, name in enumerate(sorted(state)):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        numbers = noise(*tensor.shape, seed=seed)
        if name.endswith("running_var"):
            numbers = 1 + 0.5 * numbers
        elif tensor.dim() >= 2:
            numbers *= (3 / tensor[0].numel()) ** 0.5
        elif name.endswith("weight"):
            numbers = 1 + 0.3 * numbers
        else:
            numbers *= 0.1
        tensor.copy_(torch.from_numpy(numbers))
    return network.eval()


def wave(samples: int) -> Tensor:
    """One stereo segment of noise, float32 [1, 2, samples]."""
    return torch.from_numpy(0.3 * noise(1, 2, samples)).float()


def drop_in(models: Path, name: str, network: nn.Module, **sections: Any) -> Path:
    """Writes a network with a configuration into the folder of a model, and returns the folder."""
    folder = models / "separation" / name
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "model.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(sections))
    return folder


def figures(stems: Tensor) -> list[float]:
    """Figures of stems [stems, 2, samples]: projections of each channel on noise, at the channel's level."""
    channels = stems.double().reshape(-1, stems.shape[-1]).numpy()
    directions = noise(PROJECTIONS, channels.shape[1], seed=1) * (3 / channels.shape[1]) ** 0.5
    return [float(f"{number:.8g}") for number in (channels @ directions.T).ravel()]


def reference(family: str, case: str) -> list[float]:
    """The figures of the reference code's output."""
    content = json.loads((Path(__file__).parent / "reference_figures.json").read_text())
    return [float(number) for number in content[family][case]]
