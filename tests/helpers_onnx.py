"""A small real ONNX classifier with random weights, built with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.emotions import FER2013, Emotion
from mien.modelinfo import ModelInfo


def make_onnx(
    path: Path,
    labels: Sequence[Emotion] = FER2013,
    *,
    outputs: int | None = None,
    size: int = 48,
    channels: int = 1,
    batch: str | int = "N",
    metadata: dict[str, str] | None = None,
    seed: int = 0,
    **info: Any,
) -> Path:
    """Conv 5×5/2 -> ReLU -> conv 3×3/2 -> ReLU -> mean -> linear, with ModelInfo metadata.

    ``outputs`` may contradict ``labels`` and ``metadata`` may replace the record: for tests of
    refusals.
    """
    rng = np.random.default_rng(seed)
    k = len(labels) if outputs is None else outputs

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name)

    nodes = [
        helper.make_node(
            "Conv", ["images", "w1"], ["a"], kernel_shape=[5, 5], strides=[2, 2], pads=[2] * 4
        ),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node(
            "Conv", ["b", "w2"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        ),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, channels, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, k])],
        [weight("w1", 8, channels, 5, 5), weight("w2", 16, 8, 3, 3), weight("w3", k, 16)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    record = ModelInfo(
        name="tiny",
        labels=tuple(labels),
        input_size=size,
        channels=channels,
        **{"mean": 0.5, "std": 0.25, **info},
    )
    helper.set_model_props(model, record.to_metadata() if metadata is None else metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
