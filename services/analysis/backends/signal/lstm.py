"""One direction of an LSTM layer over a whole song, compiled, because torch's overhead per step is too large."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

FRAMES_AT_ONCE = 8192

Floats = npt.NDArray[np.float32]


class Lstm:
    """One direction of one layer; the gates are stored in the order input, forget, cell, output.

    After Gers and Schmidhuber, "Recurrent Nets that Time and Count", IJCNN 2000.

    Args:
        weights: [features, 4 * units].
        recurrent: [units, 4 * units].
        bias: [4 * units].
        peepholes: [3, units], of the gates (input, forget, output); zeros for an LSTM without peepholes.
    """

    def __init__(
        self,
        weights: npt.NDArray[Any],
        recurrent: npt.NDArray[Any],
        bias: npt.NDArray[Any],
        peepholes: npt.NDArray[Any],
    ) -> None:
        self.units = len(recurrent)
        self._weights = weights.astype(np.float32)
        self._bias = bias.astype(np.float32)
        self._recurrent = np.ascontiguousarray(recurrent, np.float32)
        self._peepholes = np.ascontiguousarray(peepholes, np.float32)

    def __call__(self, data: Floats, out: Floats, reverse: bool) -> None:
        """Computes outputs [frames, units] from inputs [frames, features], backwards if `reverse`.

        It works in blocks, because the gates' inputs for an hour would take 150 MB.
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
    """Runs an LSTM over a block of frames; updates `state` and `output`, which carry over to the next block."""
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
