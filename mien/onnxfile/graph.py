"""Looks at an ONNX file before onnxruntime does: a file is not trusted because it can be read.

The base install has no parser of ONNX, so this walks the protobuf itself. It goes three levels
deep and reads names, never weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from mien.errors import ModelError

_NAMES = """
    Add AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear Div
    Dropout Elu Erf Exp Expand Flatten Gather Gelu Gemm GlobalAveragePool GlobalMaxPool
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization
    LeakyRelu MatMul Max MaxPool Min Mul Neg PRelu Pad Pow QuantizeLinear Range Reciprocal
    ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax Sqrt Squeeze Sub Tanh
    Transpose Unsqueeze
"""
#: What `mien export` writes, and plain arithmetic beside it. No loops, branches, random numbers,
#: files or tensors of any size out of nothing.
OPERATORS = frozenset(_NAMES.split())
MOST_NODES = 10_000
#: mien's own record takes a few kilobytes.
MOST_METADATA = 1 << 20


class _Refused(Exception):  # noqa: N818 - a reason, not an error of the reader
    pass


def check_graph(data: bytes, name: str) -> dict[str, str]:
    """Refuse what could run for ever, take any memory or read other files.

    Args:
        data: an ONNX file.
        name: what to call it in errors.

    Returns:
        Its metadata: onnxruntime fails on what is no text in it.

    Raises:
        ModelError: no ONNX, an operator outside :data:`OPERATORS`, sub-graphs, functions, data in
            other files, more than :data:`MOST_NODES` nodes or too much metadata.
    """
    nodes = graphs = total = 0
    metadata = {}
    try:
        for field, value in _fields(memoryview(data)):  # numbers of ModelProto in onnx.proto
            if field in (20, 25):
                raise _Refused("it carries functions or a training graph, which mien never writes")
            if field == 14:
                total += len(value)
                if total > MOST_METADATA:
                    raise _Refused(f"its metadata has more than {MOST_METADATA:,} bytes")
                entry = {part: _text(inner) for part, inner in _fields(value)}
                metadata[entry.get(1, "")] = entry.get(2, "")
            if field == 7:
                graphs += 1
                nodes += _check_nodes(value)
        if not graphs:
            raise ValueError("no graph")
        if nodes > MOST_NODES:
            raise _Refused(f"it has {nodes:,} nodes; at most {MOST_NODES:,} are run")
    except (IndexError, ValueError):
        raise ModelError(f"{name} is not a model: it is damaged, or no ONNX file.") from None
    except _Refused as reason:
        raise ModelError(f"{name} is refused: {reason}.") from None
    return metadata


def _check_nodes(graph: memoryview) -> int:
    """Checks a GraphProto; returns the number of its nodes."""
    nodes = 0
    for field, value in _fields(graph):
        if field == 1:
            nodes += 1
            _check_node(value)
        elif field == 5:
            _check_tensor(value)
        elif field in (11, 12):
            for part, inner in _fields(value):
                if part == 1:
                    _text(inner)
        elif field == 15:
            raise _Refused("it has sparse weights, which mien never writes")
    return nodes


def _check_node(node: memoryview) -> None:
    for field, value in _fields(node):
        text = _text(value) if field in (1, 2, 3, 4, 7) else ""
        if field == 4 and text not in OPERATORS:
            raise _Refused(f"its operator {text[:80]!r} is none that `mien export` writes")
        if field == 7 and text not in ("", "ai.onnx"):
            raise _Refused(f"it has operators of {text[:80]!r}")
        for part, inner in _fields(value) if field == 5 else ():  # an AttributeProto
            if part in (6, 11, 22, 23):
                raise _Refused("it has graphs within its graph, or sparse weights")
            if part in (5, 10):
                _check_tensor(inner)
            elif part == 1:
                _text(inner)


def _check_tensor(tensor: memoryview) -> None:
    for field, value in _fields(tensor):
        if field in (13, 14) and len(value):  # external_data; data_location that is not 0
            raise _Refused("its weights lie in another file; export it into one")
        if field == 8:
            _text(value)


def _text(value: memoryview) -> str:
    """Raises UnicodeDecodeError: onnxruntime would, or print, at a moment of its own."""
    return bytes(value).decode()


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field: the bytes of a message or text, empty for 0, b"1" for
    other numbers. Raises IndexError or ValueError where it ends too early or is no protobuf."""
    return ((field, content) for field, content, _ in fields(message))


def fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, content (as :func:`_fields`) and the whole encoded field, key included."""
    at, end = 0, len(message)
    while at < end:
        start = at
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(message, at)
            content = message[:0] if number == 0 else message[:1]
            yield key >> 3, content, message[start:at]
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("ends too early")
        content = message[at : at + size]
        at += size
        yield key >> 3, content, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number of more than ten bytes")
