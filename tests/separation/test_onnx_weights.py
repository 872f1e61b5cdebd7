"""Reading the weights of HTDemucs from an ONNX graph: the rules, and files that are not the expected one.

`test_real_weights.py` reads the published graph.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from services.separation.models.demucs import onnx_weights
from services.separation.models.demucs.onnx_weights import Tensor, convert, read_state

RANDOM = np.random.default_rng(1)


def values(*shape: int) -> Tensor:
    """Random values that are exact in half precision, float32."""
    return RANDOM.normal(size=shape).astype("f2").astype("f4")


CONV, EMBEDDING, SCALE, BRANCH, NORM = values(4, 2, 8, 1), values(16, 3), values(6), values(5), values(7)
LINEAR, QUERIES, OTHERS = values(8, 7), values(7, 7), values(14, 7)
# A node of each kind: its name, its operation, and its constant.
NODES: list[tuple[str, str, str, Tensor]] = [
    ("/Expand", "Expand", "onnx::Expand_1", 10 * EMBEDDING.T[None, :, :, None]),
    ("/encoder.0/dconv/layers.1/layers.1.4/Add", "Add", "onnx::Add_2", BRANCH[:, None]),
    ("/encoder.0/dconv/layers.1/layers.1.6/Mul", "Mul", "onnx::Mul_3", SCALE[:, None]),
    ("/crosstransformer/layers.0/norm_out/Mul", "Mul", "onnx::Mul_4", NORM[:, None]),
    ("/crosstransformer/layers.0/linear1/MatMul", "MatMul", "onnx::MatMul_5", LINEAR.T),
    ("/crosstransformer/layers.1/cross_attn/MatMul_1", "MatMul", "onnx::MatMul_7", OTHERS.T),
    ("/crosstransformer/layers.1/cross_attn/MatMul", "MatMul", "onnx::MatMul_6", QUERIES.T),
]
STATE = {
    "encoder.0.conv.weight": CONV,
    "freq_emb.embedding.weight": EMBEDDING,
    "encoder.0.dconv.layers.1.4.bias": BRANCH,
    "encoder.0.dconv.layers.1.6.scale": SCALE,
    "crosstransformer.layers.0.norm_out.weight": NORM,
    "crosstransformer.layers.0.linear1.weight": LINEAR,
    "crosstransformer.layers.1.cross_attn.in_proj_weight": np.concatenate([QUERIES, OTHERS]),
}
COUNT = sum(value.size for value in STATE.values())


def graph() -> Any:
    model = onnx_weights._message_class()()
    for name, value in [("encoder.0.conv.weight", CONV), *((name, value) for _, _, name, value in NODES)]:
        data = np.ascontiguousarray(value, "<f4").tobytes()
        model.graph.initializer.add(name=name, dims=value.shape, data_type=1, raw_data=data)
    model.graph.node.add(name="/encoder.0/conv/Conv", op_type="Conv", input=["x", "encoder.0.conv.weight"])
    for node, operation, name, _ in NODES:
        model.graph.node.add(name=node, op_type=operation, input=["x", name])
    return model


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_weights, "PARAMETERS", COUNT)


def test_every_parameter_has_its_name_and_its_values(tmp_path: Path) -> None:
    source, target = tmp_path / "graph.onnx", tmp_path / "weights.safetensors"
    source.write_bytes(graph().SerializeToString())
    assert read_state(source).keys() == STATE.keys()

    convert(source, target)

    written = load_file(target)
    assert written.keys() == STATE.keys()
    for name, value in STATE.items():
        assert written[name].dtype == np.float16
        np.testing.assert_array_equal(written[name].astype("f4"), value)


def test_equal_graphs_give_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    turned = graph()
    turned.graph.initializer.reverse()
    written = []
    for number, model in enumerate((graph(), turned)):
        (tmp_path / f"{number}.onnx").write_bytes(model.SerializeToString())
        convert(tmp_path / f"{number}.onnx", tmp_path / f"{number}.safetensors")
        written.append((tmp_path / f"{number}.safetensors").read_bytes())
    assert written[0] == written[1]
    length = int.from_bytes(written[0][:8], "little")
    assert json.loads(written[0][8 : 8 + length])["__metadata__"]["klass"] == "demucs.htdemucs.HTDemucs"


def cut(model: Any) -> bytes:
    return bytes(model.SerializeToString()[:-3])


def other_node(model: Any) -> bytes:
    model.graph.node[2].name = "/encoder.0/pool/Add"
    return bytes(model.SerializeToString())


def other_values(model: Any) -> bytes:
    model.graph.initializer[0].raw_data = np.full(CONV.shape, 1 / 3, "<f4").tobytes()
    return bytes(model.SerializeToString())


def other_size(model: Any) -> bytes:
    model.graph.initializer[0].dims[0] += 1
    return bytes(model.SerializeToString())


def fewer(model: Any) -> bytes:
    del model.graph.initializer[0]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "it is not an ONNX model"),
        (other_node, "a constant of its node '/encoder.0/pool/Add' is no parameter of HTDemucs"),
        (other_values, "its encoder.0.conv.weight has other values than the published model"),
        (other_size, r"its tensor encoder.0.conv.weight is not float32 \[5, 2, 8, 1\]"),
        (fewer, f"it has {COUNT - CONV.size} parameters, not {COUNT}"),
    ],
)
def test_another_graph_is_refused_with_what_differs(tmp_path: Path, damage: Callable[[Any], bytes], why: str) -> None:
    source, target = tmp_path / "graph.onnx", tmp_path / "weights.safetensors"
    source.write_bytes(damage(graph()))
    with pytest.raises(ValueError, match=why):
        convert(source, target)
    assert not target.exists()
