"""madmom's networks with madmom's weights, computed faster; their outputs are equal to 1e-4.

madmom runs recurrent layers frame by frame and convolutions map by map in Python. Here the recurrences are compiled
(neither torch's LSTM nor OpenVINO's has peepholes), and the convolutions run in torch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from services.analysis.backends.base import Progress
from services.analysis.backends.signal.lstm import Lstm

DIRECTIONS = 2

Floats = npt.NDArray[np.float32]


class RecurrentNetwork:
    """One of madmom's networks of bidirectional LSTM layers with peepholes, and a softmax at the end.

    After Gers and Schmidhuber, "Recurrent Nets that Time and Count", IJCNN 2000.

    Args:
        network: madmom's `NeuralNetwork`.
    """

    def __init__(self, network: Any) -> None:
        *layers, last = network.layers
        self._layers = [(_lstm(layer.fwd_layer), _lstm(layer.bwd_layer)) for layer in layers]
        self._weights, self._bias = last.weights.astype(np.float32), last.bias.astype(np.float32)

    def __call__(self, features: Floats, progress: Progress) -> Floats:
        """Probabilities [frames, classes].

        Args:
            features: [frames, features].
            progress: called after each layer; may raise to stop.
        """
        data = np.ascontiguousarray(features, np.float32)
        with ThreadPoolExecutor(DIRECTIONS) as pool:
            for number, (forward, backward) in enumerate(self._layers):
                out = np.empty((len(data), forward.units + backward.units), np.float32)
                halves = (out[:, : forward.units], out[:, forward.units :])
                for done in [
                    pool.submit(forward, data, halves[0], False),
                    pool.submit(backward, data, halves[1], True),
                ]:
                    done.result()
                data = out
                progress((number + 1) / len(self._layers))
        scores = data @ self._weights + self._bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: Floats = scores / scores.sum(axis=1, keepdims=True)
        return probabilities


def _lstm(layer: Any) -> Lstm:
    gates = (layer.input_gate, layer.forget_gate, layer.cell, layer.output_gate)
    return Lstm(
        np.hstack([gate.weights for gate in gates]),
        np.hstack([gate.recurrent_weights for gate in gates]),
        np.concatenate([gate.bias for gate in gates]),
        np.stack([gate.peephole_weights for gate in gates if gate is not layer.cell]),
    )


class ConvolutionalNetwork:
    """A network of madmom's convolutions, batch norms, paddings and poolings, in torch on the CPU.

    Args:
        network: madmom's `NeuralNetwork`, whose weights are copied.
    """

    def __init__(self, network: Any) -> None:
        layers: list[nn.Module] = []
        for layer in network.layers:
            layers.extend(_MAKERS[type(layer).__name__](layer))
        self._layers = layers

    @torch.inference_mode()
    def __call__(self, data: npt.NDArray[Any], progress: Progress) -> Floats:
        """The output of madmom's network.

        Args:
            data: [frames, bins].
            progress: called after each layer; may raise to stop.

        Returns:
            [frames, bins, channels], without averaged axes and axes of length one.
        """
        x = torch.from_numpy(np.ascontiguousarray(data, np.float32))[None, None]
        for number, layer in enumerate(self._layers):
            x = layer(x)
            progress((number + 1) / len(self._layers))
        return np.ascontiguousarray(x[0].movedim(0, -1).squeeze().numpy())


class _BatchNorm(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        scale = layer.gamma * layer.inv_std
        self._scale, self._shift = (
            torch.tensor(np.asarray(values, np.float32))[:, None, None]
            for values in (scale, layer.beta - layer.mean * scale)
        )
        self._activation = _ACTIVATIONS[layer.activation_fn.__name__]

    def forward(self, x: Tensor) -> Tensor:
        return self._activation(x * self._scale + self._shift)


class _Mean(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._axes = tuple(axis + 2 for axis in np.atleast_1d(layer.axis).tolist())

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self._axes, keepdim=True)


def _convolution(layer: Any) -> Sequence[nn.Module]:
    maps, channels, *size = np.swapaxes(layer.weights, 0, 1).shape
    convolution = nn.Conv2d(channels, maps, size)
    # madmom convolves, torch correlates.
    weights = np.swapaxes(layer.weights, 0, 1)[..., ::-1, ::-1]
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor(weights.astype(np.float32)))
        assert convolution.bias is not None
        convolution.bias.copy_(torch.tensor(np.broadcast_to(layer.bias, maps).astype(np.float32)))
    return [convolution]


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"elu": nn.functional.elu, "relu": torch.relu}
_MAKERS: dict[str, Callable[[Any], Sequence[nn.Module]]] = {
    "ConvolutionalLayer": _convolution,
    "BatchNormLayer": lambda layer: [_BatchNorm(layer)],
    "PadLayer": lambda layer: [nn.ZeroPad2d(layer.width)],
    "MaxPoolLayer": lambda layer: [nn.MaxPool2d(tuple(layer.size), tuple(layer.stride))],
    "AverageLayer": lambda layer: [_Mean(layer)],
}
