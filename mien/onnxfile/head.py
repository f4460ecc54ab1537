"""Takes the last layer of a model file off, or puts another one there, without the onnx package.

The base install has no writer of ONNX. What is changed here is little: one node, two tensors, the
output's shape and the record; every other byte of the file stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.modelinfo import ModelInfo
from mien.onnxfile.graph import fields

# Field numbers of onnx.proto.
_GRAPH, _METADATA = 7, 14
_NODE, _TENSOR, _OUTPUT, _SHAPE = 1, 5, 12, 13
_FLOAT = 1


@dataclass(frozen=True)
class Head:
    """The dense layer that a graph ends with.

    Attributes:
        features: the tensor that it takes. width: numbers in it.
        weight, bias: names of its two tensors.
        transposed: whether the weight is stored (K, D), as torch does.
        node: the encoded node, with its key.
    """

    features: str
    width: int
    weight: str
    bias: str
    transposed: bool
    node: bytes


def find_head(data: bytes, name: str) -> Head:
    """The last layer of an ONNX file that :func:`mien.onnxfile.graph.check_graph` has passed.

    Raises:
        ModelError: the graph does not end with a dense layer whose weights are float32.
    """
    graph = _graph(data)
    output = next(_name(content, 1) for field, content, _ in fields(graph) if field == _OUTPUT)
    refusal = ModelError(f"{name} cannot be started from: it does not end with a dense layer.")
    for field, content, whole in fields(graph):
        if field != _NODE:
            continue
        parts = list(fields(content))
        if output not in [_text(c) for f, c, _ in parts if f == 2]:
            continue
        inputs = [_text(c) for f, c, _ in parts if f == 1]
        if [_text(c) for f, c, _ in parts if f == 4] != ["Gemm"] or len(inputs) != 3:
            raise refusal
        attributes = [list(fields(c)) for f, c, _ in parts if f == 5]
        transposed = any(
            _text(a[0][1]) == "transB" and any(f == 3 and len(c) for f, c, _ in a)
            for a in attributes
        )
        shape = _shape(graph, inputs[1])
        if len(shape) != 2:
            raise refusal
        width = shape[1] if transposed else shape[0]
        return Head(inputs[0], width, inputs[1], inputs[2], transposed, bytes(whole))
    raise refusal


def without_head(data: bytes, head: Head, info: ModelInfo) -> bytes:
    """The same network, whose output are the features that the head took; ``info`` says so."""
    output = _value_info(head.features, head.width)
    return _rebuilt(data, info, output, drop={head.weight, head.bias}, drop_node=head.node)


def with_head(
    data: bytes,
    head: Head,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    info: ModelInfo,
) -> bytes:
    """The same network with another last layer and record.

    Args:
        weight: float32 (K, D). bias: float32 (K,).
        info: its K labels, and all else.
    """
    stored = weight if head.transposed else weight.T
    tensors = _tensor(head.weight, stored) + _tensor(head.bias, bias)
    output = next(_name(c, 1) for f, c, _ in fields(_graph(data)) if f == _OUTPUT)
    made = _value_info(output, len(bias))
    return _rebuilt(data, info, made, drop={head.weight, head.bias}, more=tensors)


def _rebuilt(
    data: bytes,
    info: ModelInfo,
    output: bytes,
    drop: set[str],
    drop_node: bytes = b"",
    more: bytes = b"",
) -> bytes:
    graph = b""
    outputs = {_name(c, 1) for f, c, _ in fields(_graph(data)) if f == _OUTPUT}
    for field, content, whole in fields(_graph(data)):
        if field == _OUTPUT or (field == _TENSOR and _name(content, 8) in drop):
            continue
        if field == _SHAPE and _name(content, 1) in {*drop, *outputs}:
            continue
        if field == _NODE and bytes(whole) == drop_node:
            continue
        graph += bytes(whole)
    graph += more + _field(_OUTPUT, output)
    kept = [bytes(w) for f, _, w in fields(memoryview(data)) if f != _GRAPH]
    return with_record(b"".join([*kept, _field(_GRAPH, graph)]), info)


def with_record(data: bytes, info: ModelInfo) -> bytes:
    """The same file with another record."""
    kept = [bytes(w) for f, _, w in fields(memoryview(data)) if f != _METADATA]
    entries = [
        _field(_METADATA, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in info.to_metadata().items()
    ]
    return b"".join([*kept, *entries])


def _graph(data: bytes) -> memoryview:
    return next(content for field, content, _ in fields(memoryview(data)) if field == _GRAPH)


def _text(content: memoryview) -> str:
    return bytes(content).decode()


def _name(message: memoryview, number: int) -> str:
    return next((_text(c) for f, c, _ in fields(message) if f == number), "")


def _shape(graph: memoryview, tensor: str) -> list[int]:
    """Dimensions of a float32 tensor of the file; [] where it is none."""
    for field, content, _ in fields(graph):
        if field != _TENSOR or _name(content, 8) != tensor:
            continue
        parts = list(fields(content))
        if not any(f == 2 and bytes(w)[-1] == _FLOAT for f, _, w in parts):
            return []
        shape: list[int] = []
        for number, packed, whole in parts:
            if number == 1:  # one number after its key, or all of them packed
                shape += _numbers(bytes(packed if bytes(whole)[0] & 7 == 2 else whole[1:]))
        return shape
    return []


def _numbers(data: bytes) -> Iterable[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _tensor(name: str, values: NDArray[np.float32]) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    body = dims + _number(2, _FLOAT) + _field(8, name.encode()) + _field(9, raw)
    return _field(_TENSOR, body)


def _value_info(name: str, width: int) -> bytes:
    """A float32 tensor (batch, width)."""
    dims = _field(1, _field(2, b"batch")) + _field(1, _number(1, width))
    kind = _field(1, _number(1, _FLOAT) + _field(2, dims))
    return _field(1, name.encode()) + _field(2, kind)
