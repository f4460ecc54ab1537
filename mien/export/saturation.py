"""int8 weights with which every processor computes the same.

x86 processors with AVX2 or AVX-512 but without VNNI multiply 8-bit activations by 8-bit weights
with ``vpmaddubsw``, which adds two neighbouring products in 16 bits and cuts off what is beyond:
255 * (100 + 90) is. Weights as quantisation leaves them cost ``mien_distilled`` 4 points of
accuracy there. The usual remedy, 7-bit weights, halves the precision of all; only channels with
two large neighbours need a coarser scale, and rarely twice as coarse.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

#: Two neighbouring weights of one sign may sum to this: 255 * 128 < 2**15.
MOST = 128

Floats = NDArray[np.float32]


def largest_pair(weight: NDArray[np.floating]) -> Floats:
    """Of every output channel the largest sum of two neighbours, without its sign.

    Args:
        weight: (O, I, kH, kW). Products are added tap by tap, in each over the input channels.

    Returns:
        float32 (O,).
    """
    rows = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    if rows.shape[1] < 2:
        return np.zeros(len(weight), np.float32)
    return np.asarray(np.abs(rows[:, :-1] + rows[:, 1:]).max(axis=1), np.float32)


def rounded(weight: Floats, least: Floats | float = 0.0) -> tuple[NDArray[np.int8], Floats]:
    """``weight`` (O, I, kH, kW) as int8 and scales (O,) so that no pair exceeds ``MOST``.

    Args:
        least: no scale is finer, (O,) or one for all.
    """
    alone = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.maximum(np.maximum(alone / 127, largest_pair(weight) / MOST), 1e-12)
    scale = np.where(least > 1.001 * scale, least, scale)  # a last bit's difference is none
    while True:
        steps = np.rint(weight / scale.reshape(-1, 1, 1, 1))
        beyond = largest_pair(steps) > MOST  # by rounding
        if not beyond.any():
            return steps.astype(np.int8), np.asarray(scale, np.float32)
        scale = np.where(beyond, scale * 1.004, scale)


def prevent(quantised: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Round the convolutions' weights of ``quantised`` anew, in place.

    Args:
        quantised: of ``onnxruntime.quantization.quantize_static``: QDQ, int8 weights per channel.
        source: the float network that it was made of.
    """
    found = {tensor.name: tensor for tensor in quantised.graph.initializer}
    floats = {tensor.name: tensor for tensor in source.graph.initializer}
    nodes = quantised.graph.node
    inputs = {n.output[0]: n.input for n in nodes if n.op_type == "DequantizeLinear"}

    def put(name: str, values: NDArray[np.generic]) -> None:
        found[name].CopyFrom(numpy_helper.from_array(values, name))

    for conv in (n for n in nodes if n.op_type == "Conv" and n.input[1] in inputs):
        name, scale_name = inputs[conv.input[1]][:2]
        before = numpy_helper.to_array(found[scale_name])
        weight = numpy_helper.to_array(floats[name.removesuffix("_quantized")])
        # A nearly dead channel with a bias got a coarser scale, else its bias would not fit int32.
        biased = len(conv.input) > 2
        steps, scale = rounded(np.asarray(weight, np.float32), before if biased else 0.0)
        put(name, steps)
        put(scale_name, scale)
        if biased:  # the bias counts in steps of activation times weight
            name, scale_name = inputs[conv.input[2]][:2]
            coarser = scale / before
            bias = numpy_helper.to_array(found[name])
            most = np.iinfo(np.int32).max
            put(name, np.rint(bias / coarser).clip(-most, most).astype(np.int32))
            put(scale_name, np.asarray(numpy_helper.to_array(found[scale_name]) * coarser))
