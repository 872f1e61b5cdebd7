"""madmom's networks from madmom's own weights, computed faster: the same outputs to 1e-4.

madmom runs its recurrent layers frame by frame and its convolutions map by map in Python. Here the recurrences are
compiled by numba (torch's LSTM has no peepholes, and OpenVINO's neither), and the convolutions run in torch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from services.analysis.backends.base import Progress

FRAMES_AT_ONCE = 8192
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
        self._layers = [(_Lstm(layer.fwd_layer), _Lstm(layer.bwd_layer)) for layer in layers]
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


class _Lstm:
    """One direction of one layer, its gates side by side: input, forget, cell, output."""

    def __init__(self, layer: Any) -> None:
        gates = (layer.input_gate, layer.forget_gate, layer.cell, layer.output_gate)
        self.units = int(layer.cell.bias.size)
        self._weights = np.hstack([gate.weights for gate in gates]).astype(np.float32)
        self._bias = np.concatenate([gate.bias for gate in gates]).astype(np.float32)
        self._recurrent = np.ascontiguousarray(np.hstack([gate.recurrent_weights for gate in gates]), np.float32)
        peepholes = [gate.peephole_weights for gate in gates if gate is not layer.cell]
        self._peepholes = np.ascontiguousarray(np.stack(peepholes), np.float32)

    def __call__(self, data: Floats, out: Floats, reverse: bool) -> None:
        """Writes the outputs [frames, units] for inputs [frames, features], from the last frame to the first if asked.

        In blocks: the gates' inputs of an hour would take 150 MB.
        """
        state, output = np.zeros((2, self.units), np.float32)
        starts = range(0, len(data), FRAMES_AT_ONCE)
        for start in reversed(starts) if reverse else starts:
            block = slice(start, start + FRAMES_AT_ONCE)
            gates = data[block] @ self._weights
            gates += self._bias
            _recur(gates, self._recurrent, self._peepholes, state, output, out[block], reverse)


@numba.njit(nogil=True, cache=True, fastmath=True)
def _recur(
    gates: Floats,
    recurrent: Floats,
    peepholes: Floats,
    state: Floats,
    output: Floats,
    out: Floats,
    reverse: bool,
) -> None:
    """Runs an LSTM over a block of frames; `state` and `output` are those before it, then those after it."""
    frames, units = out.shape
    for step in range(frames):
        frame = frames - 1 - step if reverse else step
        gate = gates[frame]
        for k in range(units):
            before = output[k]
            for j in range(4 * units):
                gate[j] += before * recurrent[k, j]
        for k in range(units):
            enter = _sigmoid(gate[k] + state[k] * peepholes[0, k])
            forget = _sigmoid(gate[units + k] + state[k] * peepholes[1, k])
            state[k] = np.tanh(gate[2 * units + k]) * enter + state[k] * forget
            output[k] = np.tanh(state[k]) * _sigmoid(gate[3 * units + k] + state[k] * peepholes[2, k])
            out[frame, k] = output[k]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _sigmoid(x: Any) -> Any:
    return np.float32(1) / (np.float32(1) + np.exp(-x))


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
        """What madmom's network makes of it.

        Args:
            data: [frames, bins].
            progress: called after each layer; may raise to stop.

        Returns:
            [frames, bins, channels], without the axes that are averaged or of length one.
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
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


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
    "AverageLayer": lambda _layer: [_Mean()],
}
