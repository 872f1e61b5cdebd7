"""Reads the inputs and outputs of an ONNX file without a library for it.

Such a file is a message of Protocol Buffers (https://onnx.ai/onnx/repo-docs/IR.html). Only the fields on the way to the
shapes are read. The weights, nearly all of the file, are skipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

Shape = tuple[int | None, ...]

# Numbers of the fields in onnx.proto.
GRAPH, INPUT, OUTPUT, INITIALIZER = 7, 11, 12, 5
NAME, TYPE, TENSOR, SHAPE, DIMENSION, VALUE = 1, 2, 1, 2, 1, 1
INITIALIZER_NAME = 8
# Kinds of fields on the wire; the last ones have a fixed size in bytes.
VARINT, BYTES = 0, 2
SIZES = {1: 8, 5: 4}


@dataclass(frozen=True, slots=True)
class Ports:
    """The inputs and outputs of a network, by name; None stands for a dimension that the file leaves open."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def read_ports(path: Path) -> Ports:
    """Reads the inputs and outputs of a network; weights that are listed as inputs do not count.

    Raises:
        ValueError: the file is not in the ONNX format, or not complete.
    """
    inputs: dict[str, Shape] = {}
    outputs: dict[str, Shape] = {}
    weights = set()
    with path.open("rb") as file:
        for graph in _messages(file, path.stat().st_size, GRAPH):
            for number, _, end in _fields(file, graph):
                if number == INITIALIZER:
                    weights |= {_text(file, name) for name in _messages(file, end, INITIALIZER_NAME)}
                elif number in (INPUT, OUTPUT):
                    name, shape = _port(file, end)
                    (inputs if number == INPUT else outputs)[name] = shape
    if not outputs:
        raise ValueError("it has no network")
    return Ports({name: shape for name, shape in inputs.items() if name not in weights}, outputs)


def _port(file: BinaryIO, end: int) -> tuple[str, Shape]:
    """The name and shape of an input or output."""
    name, sizes = "", []
    for number, _, field_end in _fields(file, end):
        if number == NAME:
            name = _text(file, field_end)
        elif number == TYPE:
            for tensor in _messages(file, field_end, TENSOR):
                for shape in _messages(file, tensor, SHAPE):
                    for dimension in _messages(file, shape, DIMENSION):
                        known = [value for number, value, _ in _fields(file, dimension) if number == VALUE]
                        sizes.append(known[0] if known else None)
    return name, tuple(sizes)


def _text(file: BinaryIO, end: int) -> str:
    return file.read(end - file.tell()).decode(errors="replace")


def _messages(file: BinaryIO, end: int, wanted: int) -> Iterator[int]:
    """The ends of the fields with the number `wanted`; see `_fields`."""
    for number, _, field_end in _fields(file, end):
        if number == wanted:
            yield field_end


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields number, value and end of each field up to `end`; the value is 0 if it is not a whole number.

    When a field is yielded, the file is at its content. It goes on from its end, however much of it was read.
    """
    while file.tell() < end:
        tag, value = _varint(file), 0
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value = _varint(file)
        if not number or kind not in (VARINT, BYTES, *SIZES):
            raise ValueError("it is not in the ONNX format")
        length = _varint(file) if kind == BYTES else SIZES.get(kind, 0)
        field_end = file.tell() + length
        if field_end > end:
            raise ValueError("it ends in the middle")
        yield number, value, field_end
        file.seek(field_end)


def _varint(file: BinaryIO) -> int:
    """A whole number in bytes of seven bits each, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends in the middle")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("it is not in the ONNX format")
