"""From a checkpoint to a self-describing ONNX file: temperature, parity check, int8 with a gate."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from mien.atomic import write_bytes
from mien.classify import Classifier, classifier_of
from mien.data.dataset import FaceDataset
from mien.emotions import Label, to_labels
from mien.errors import ModelError
from mien.evaluate.temperature import fit_temperature
from mien.export.saturation import prevent
from mien.modelinfo import ModelInfo
from mien.onnxfile.runtime import onnxruntime
from mien.preprocess import normalize
from mien.text import printable
from mien.train.checkpoint import TorchClassifier
from mien.train.degrade import degrade

#: Largest difference of a float32 logit between torch and onnxruntime on real faces.
PARITY = 1e-3
#: Largest fall of the validation accuracy that int8 may cost: .3 points, and one image.
INT8_TOLERANCE = 0.003
#: Kept in float32: a few thousand multiply-adds whose 256 steps would make two classes tie.
_HEAD = ("ReduceMean", "GlobalAveragePool", "Gemm")
OPSET = 18


def default_licence(training_data: str) -> str:
    """What an exported file says of its weights where its maker says nothing.

    Args:
        training_data: :attr:`mien.modelinfo.ModelInfo.training_data`.
    """
    if training_data == "photo":
        return (
            "Research use: trained on FER2013 (released for research by its Kaggle challenge), "
            "FER+ votes (MIT), CK+ (research only) and muxspace facial expressions (Apache-2.0); "
            "the code is Apache-2.0."
        )
    if training_data.startswith(("fer2013", "ferplus")):
        return (
            "Research use: trained on FER2013 (released for research by its Kaggle challenge) and "
            "FER+ votes (MIT); the code is Apache-2.0."
        )
    return f"Not stated: trained on {training_data or 'unnamed data'}, whose terms decide."


@dataclass(frozen=True)
class ExportResult:
    """What was written and how it compares.

    Attributes:
        path, info: the file and its record.
        parity: largest difference of a logit, torch against the file, on real validation faces.
        float_accuracy, accuracy: of the float32 network and of the file, on the validation split.
        size: bytes.
    """

    path: Path
    info: ModelInfo
    parity: float
    float_accuracy: float
    accuracy: float
    size: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "bytes": self.size,
            "precision": self.info.precision,
            "temperature": self.info.temperature,
            "parity": self.parity,
            "float_accuracy": self.float_accuracy,
            "accuracy": self.accuracy,
        }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints pages about torchvision and opsets that no user can act on."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _to_onnx(classifier: TorchClassifier) -> onnx.ModelProto:
    info = classifier.info
    return to_onnx(classifier.model, (info.channels, info.input_size, info.input_size))


def to_onnx(model: torch.nn.Module, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The graph of a network in evaluation: float32 "images" (N, *shape) in, "logits" out."""
    onnxruntime()  # before torch imports it: it must not report to its maker
    example = torch.randn(2, *shape)
    model = model.to("cpu")
    model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # Exporter's notes on where each node came from: they double the file and name local paths.
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    return proto


def _with_info(proto: onnx.ModelProto, info: ModelInfo) -> bytes:
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, info.to_metadata())
    proto.doc_string = ""
    return bytes(proto.SerializeToString())


def _in_float(proto: onnx.ModelProto) -> list[str]:
    """Nodes that int8 leaves alone: pooling and head, and what standardises a face before the first
    convolution, where 256 steps would swallow the epsilon of its deviation."""
    nodes = list(proto.graph.node)
    first = next((i for i, n in enumerate(nodes) if n.op_type == "Conv"), 0)
    return [n.name for i, n in enumerate(nodes) if i < first or n.op_type in _HEAD]


def _quantize(
    proto: onnx.ModelProto, faces: NDArray[np.uint8], info: ModelInfo, method: str
) -> onnx.ModelProto:
    """Static int8 (QDQ, per channel, uint8 activations) calibrated on ``faces``.

    All but the head: pooling and the dense layer stay float32.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            n = max(len(faces) // 64, 1)  # histograms need chunks of one size
            self.chunks = iter(np.split(faces[: len(faces) // n * n], n))

        def get_next(self) -> dict[str, Any] | None:
            chunk = next(self.chunks, None)
            return None if chunk is None else {"images": normalize(chunk, info)}

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    if method not in methods:
        raise ModelError(f"Calibration must be one of {', '.join(methods)}; not {method!r}.")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(proto, source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[method],
            nodes_to_exclude=_in_float(proto),
        )
        quantised = onnx.load(target)
    prevent(quantised, proto)
    return quantised


def _degraded(faces: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """``share`` of the faces as life degrades them, the others a little; always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = degrade(torch.from_numpy(faces)[:, None].float() / 255, share)
    return np.asarray((made[:, 0] * 255).round().numpy(), np.uint8)


def _calibration(train: FaceDataset, n: int, degraded: float) -> NDArray[np.uint8]:
    """``n`` images, evenly spaced; half of them degraded for a network that knows such."""
    rows = np.linspace(0, len(train) - 1, min(n, len(train))).astype(np.int64)
    shown = train.images[rows]
    if degraded:
        shown[::2] = _degraded(shown[::2], degraded)
    return shown


def _temperature(
    proto: onnx.ModelProto,
    info: ModelInfo,
    logits: NDArray[np.float32],
    val: FaceDataset,
    *,
    degraded: bool,
) -> float:
    """Fitted under the labels' shares, not under the prior that the network states.

    Args:
        logits: of ``val``, by ``proto``. degraded: fit on degraded copies of ``val`` too.
    """
    labels = val.labels
    if degraded:
        more = classifier_of(_with_info(proto, info)).logits(_degraded(val.images, 1))
        logits = np.concatenate([logits, more])
    every = np.resize(labels, len(logits))
    if not info.prior:
        return fit_temperature(logits, every)
    shares = np.bincount(labels, minlength=len(info.labels)) / len(labels)
    own = np.array([info.prior[label] for label in info.labels])
    shift = np.log(np.maximum(shares, 1e-3) / own).astype(np.float32)
    return fit_temperature(logits, every, shift)


def _scores_of(path: Path, proto: onnx.ModelProto) -> Mapping[str, Any]:
    """The recorded figures of an earlier export of this very network at ``path``; else {}: the same
    network again, say with another licence, is not scored anew."""

    def bare(model: onnx.ModelProto) -> bytes:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        del copy.metadata_props[:]
        copy.doc_string = ""
        return bytes(copy.SerializeToString(deterministic=True))

    if not path.is_file():
        return {}
    try:
        earlier, scores = onnx.load(path), Classifier(path).info.scores
    except (ModelError, OSError, ValueError):
        return {}  # whatever it is, it is about to be replaced
    return scores if bare(earlier) == bare(proto) else {}


def record_scores(path: str | Path, split: str, scores: Mapping[str, Any]) -> ModelInfo:
    """Write the figures of a split into the file's own record, so that they travel with it.

    Args:
        path: an ONNX file that mien wrote; replaced atomically.
        split: "PublicTest", "PrivateTest", ...
        scores: plain figures, e.g. {"accuracy": 0.71, "n": 3589}.

    Raises:
        ModelError: the file is missing or not mien's.
    """
    info = Classifier(path).info  # checks the file, with a sentence for each thing wrong
    info = dataclasses.replace(info, scores={**info.scores, split: dict(scores)})
    write_bytes(path, _with_info(onnx.load(path), info))
    return info


def _accuracy(logits: NDArray[np.float32], split: FaceDataset) -> float:
    return float((logits.argmax(1) == split.labels).mean())


def _aligned(val: FaceDataset, labels: tuple[Label, ...]) -> FaceDataset:
    """``val`` with its labels as places among the model's. Raises ModelError for one it lacks."""
    classes = to_labels(map(printable, val.classes))  # as the model's are called
    if classes == labels:
        return val
    used = [classes[k] for k in np.unique(val.labels)]
    if lacking := [label.value for label in used if label not in labels]:
        raise ModelError(
            f"The validation images show {', '.join(lacking)}, which the model does not know; "
            "export it with the dataset that it was trained on."
        )
    places = np.array([labels.index(c) if c in labels else 0 for c in classes])
    numbers = places[val.labels].astype(val.labels.dtype)
    return dataclasses.replace(val, labels=numbers, classes=labels)


def _agree(exported: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The largest difference of a logit. Raises ModelError where the file's are not torch's."""
    parity = float(np.abs(exported - reference).max())
    if not parity <= PARITY:
        words = f"a logit differs by {parity:.2g} (allowed {PARITY:g}); not written."
        raise ModelError(f"The exported network disagrees with torch: {words}")
    return parity


def _gate(before: float, after: float, tolerance: float, split: str) -> None:
    """Raise ModelError where int8 costs more accuracy than it may."""
    if before - after > tolerance:
        raise ModelError(
            f"int8 falls from {before:.4f} to {after:.4f} on {split}, more than "
            f"{100 * tolerance:.2g} points; not written. Try --calibration-method entropy, or "
            "allow more with --int8-tolerance."
        )


def export_onnx(
    classifier: TorchClassifier,
    out: str | Path,
    train: FaceDataset,
    val: FaceDataset,
    *,
    int8: bool = False,
    val_name: str = "val",
    calibration: int = 1024,
    method: str = "minmax",
    tolerance: float | None = None,
    **changes: Any,
) -> ExportResult:
    """Write ``classifier`` as ONNX with its ModelInfo.

    Args:
        classifier: from :func:`mien.train.load_checkpoint`.
        out: the .onnx file to write.
        train: split whose images calibrate int8 (``calibration`` of them, evenly spaced; for a
            network that was trained on degraded images half of them degraded).
        val: split that fits the temperature (beside a degraded copy of it for such a network; under
            its classes' shares where the network states a prior), checks parity and judges int8.
        int8: quantise weights and activations.
        method: calibration: minmax, entropy or percentile.
        tolerance: largest fall of accuracy on ``val`` that int8 may cost, from 0 to 1. None: .003,
            or one image where that is more.
        changes: fields of ModelInfo to set (name, licence, crop_scale...).

    A file of the very same network at ``out`` keeps its recorded scores.

    Raises:
        ModelError: ``val`` shows a class that the model lacks, torch and ONNX disagree, or int8
            loses more than ``tolerance``.
    """
    if not len(val):
        raise ModelError("Export needs a validation split to fit the temperature; it is empty.")
    info = dataclasses.replace(classifier.info, **changes)
    val = _aligned(val, info.labels)
    reference = classifier.logits(val.images)
    float_accuracy = _accuracy(reference, val)
    proto = _to_onnx(classifier)
    faces = val.images[:512]
    exported = classifier_of(_with_info(proto, info)).logits(faces)
    parity = _agree(exported, reference[: len(faces)])
    logits, accuracy = reference, float_accuracy
    if int8:
        shown = _calibration(train, calibration, classifier.degraded)
        proto = _quantize(proto, shown, info, method)
        logits = classifier_of(_with_info(proto, info)).logits(val.images)
        accuracy = _accuracy(logits, val)
        parity = float(np.abs(logits[: len(faces)] - reference[: len(faces)]).max())
        allowed = max(INT8_TOLERANCE, 1.5 / len(val)) if tolerance is None else tolerance
        _gate(float_accuracy, accuracy, allowed, val_name)
    path, found = Path(out), {"accuracy": round(accuracy, 6), "n": len(val)}
    info = dataclasses.replace(
        info,
        temperature=_temperature(proto, info, logits, val, degraded=classifier.degraded > 0),
        precision="int8" if int8 else "float32",
        scores={**_scores_of(path, proto), val_name: found, **info.scores},
    )
    data = _with_info(proto, info)
    write_bytes(path, data)
    return ExportResult(path, info, parity, float_accuracy, accuracy, len(data))
