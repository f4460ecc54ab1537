"""A model file as a network to train further: its weights read back from float32 or from int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from mien.classify import Classifier
from mien.errors import ModelError
from mien.models.fast import Conv2d, Dropout

#: What the layers do that have no weights: operator -> (inputs, attributes) -> output.
_PLAIN: Mapping[str, Callable[[list[Tensor], Mapping[str, Any]], Tensor]] = {
    "Add": lambda x, a: x[0] + x[1],
    "Sub": lambda x, a: x[0] - x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": lambda x, a: x[0] / x[1],
    "Sqrt": lambda x, a: torch.sqrt(x[0]),
    "Reciprocal": lambda x, a: torch.reciprocal(x[0]),
    "Relu": lambda x, a: torch.relu(x[0]),
    "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
    "Identity": lambda x, a: x[0],
    "GlobalAveragePool": lambda x, a: x[0].mean(dim=(2, 3), keepdim=True),
    "Flatten": lambda x, a: x[0].flatten(a.get("axis", 1)),
    "MaxPool": lambda x, a: F.max_pool2d(
        x[0], a["kernel_shape"], a.get("strides"), a.get("pads", [0])[0]
    ),
}


class OnnxNetwork(nn.Module):
    """The graph of a file that mien wrote, node by node, with the weights of its convolutions and
    dense layers to be trained. int8 weights are read back as the float32 that they stand for, and
    what the activations lose between layers is left out; a ReLU that the file's quantisation took
    in comes back.

    ``forward`` takes pixels / 255, float (N, channels, S, S): the file's standardisation is done
    here while ``standardise`` is true. Dropout stands before the last layer.

    Args:
        path: the file.
        num_classes: its number of labels, for a check.
        dropout: before the last layer, in training.

    Raises:
        ModelError: no such file, other classes, or an operator that is not known here.
    """

    def __init__(self, path: str | Path, num_classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.info = Classifier(path, threads=1).info  # checks the file
        if len(self.info.labels) != num_classes:
            raise ModelError(f"{path} has {len(self.info.labels)} classes, not {num_classes}.")
        graph = onnx.load(path).graph
        self.standardise = True
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleDict()
        self.constants: dict[str, str] = {}  # tensor -> buffer
        self.steps: list[tuple[str, str, list[str], str, dict[str, Any]]] = []
        self.source, self.result = graph.input[0].name, graph.output[0].name
        known = {t.name: _tensor(t) for t in graph.initializer}
        for node in graph.node:
            self._add(node, known, str(path))

    def _add(self, node: onnx.NodeProto, known: dict[str, Tensor], path: str) -> None:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs, output = list(node.input), node.output[0]
        if node.op_type == "Constant":
            known[output] = _tensor(attributes["value"])
        elif node.op_type == "DequantizeLinear" and inputs[0] in known:
            values, scale, zero = (known[i] for i in inputs)
            known[output] = _dequantised(values, scale, zero, attributes.get("axis", 1))
        elif node.op_type == "QuantizeLinear":
            # Unsigned numbers from zero on: whatever is below is cut off, as by a ReLU.
            zero = known[inputs[2]]
            cut = zero.dtype == torch.uint8 and int(zero.max()) == 0
            self.steps.append(("Relu" if cut else "Identity", "", inputs[:1], output, {}))
        elif node.op_type == "DequantizeLinear":
            self.steps.append(("Identity", "", inputs[:1], output, {}))
        elif node.op_type in ("Conv", "Gemm"):
            name = f"layer{len(self.layers)}"
            weights = [known.get(i) for i in inputs[1:]]
            self.layers[name] = _layer(node.op_type, weights, attributes, path)
            self.steps.append((node.op_type, name, inputs[:1], output, {}))
        elif node.op_type == "ReduceMean":
            axes = attributes.get("axes") or known[inputs[1]].tolist()
            kept = {"axes": [int(a) for a in axes], "keepdims": attributes.get("keepdims", 1)}
            self.steps.append(("ReduceMean", "", inputs[:1], output, kept))
        elif node.op_type in _PLAIN:
            for tensor in inputs:
                if tensor in known and tensor not in self.constants:
                    self.constants[tensor] = f"constant{len(self.constants)}"
                    self.register_buffer(self.constants[tensor], known[tensor], persistent=False)
            self.steps.append((node.op_type, "", inputs, output, attributes))
        else:
            raise ModelError(
                f"{path} cannot be trained further: operator {node.op_type} is not known; train "
                "its last layer alone with --method linear."
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.standardise:
            x = (x - self.info.mean) / self.info.std
        values = {name: getattr(self, buffer) for name, buffer in self.constants.items()}
        values[self.source] = x
        for kind, layer, inputs, output, attributes in self.steps:
            given = [values[i] for i in inputs]
            if layer:
                last = output == self.result
                values[output] = self.layers[layer](self.dropout(given[0]) if last else given[0])
            elif kind == "ReduceMean":
                values[output] = given[0].mean(attributes["axes"], bool(attributes["keepdims"]))
            else:
                values[output] = _PLAIN[kind](given, attributes)
        found: Tensor = values[self.result]
        return found


def _tensor(stored: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(stored).copy())


def _dequantised(values: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    shape = [-1 if i == axis else 1 for i in range(values.ndim)] if scale.ndim else []
    return (values.float() - zero.float().reshape(shape)) * scale.reshape(shape)


def _layer(
    kind: str, weights: list[Tensor | None], attributes: Mapping[str, Any], path: str
) -> nn.Module:
    weight, bias = weights[0], weights[1] if len(weights) > 1 else None
    if weight is None or (bias is None and len(weights) > 1):
        raise ModelError(f"{path} cannot be trained further: it computes weights of its own.")
    layer: nn.Module
    if kind == "Gemm":
        weight = weight if attributes.get("transB") else weight.T
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    else:
        pads, group = attributes.get("pads", [0] * 4), attributes.get("group", 1)
        layer = Conv2d(
            weight.shape[1] * group,
            weight.shape[0],
            (weight.shape[2], weight.shape[3]),
            tuple(attributes.get("strides", (1, 1))),
            tuple(pads[:2]),
            tuple(attributes.get("dilations", (1, 1))),
            group,
            bias is not None,
        )
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)  # type: ignore[union-attr]
    return layer
