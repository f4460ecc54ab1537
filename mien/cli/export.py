"""``mien export CHECKPOINT``: a self-describing ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.cli._console import say
from mien.cli._options import Data, Json, argument, option
from mien.errors import ModelError, require_extra


def export(
    checkpoint: Annotated[Path, argument("best.ckpt of a run.")],
    out: Annotated[Path | None, option("File to write (default: NAME.onnx).")] = None,
    data: Data = None,
    int8: Annotated[
        bool, option("Quantise; refused if that loses too much accuracy.", "--int8")
    ] = False,
    int8_tolerance: Annotated[
        float | None,
        option("Points of accuracy that --int8 may lose (default: 0.3, or one image).", min=0),
    ] = None,
    name: Annotated[str | None, option("Model name (default: the recipe's).")] = None,
    licence: Annotated[str, option("Licence of the weights (default: what the data permit).")] = "",
    calibration_method: Annotated[str, option("minmax, entropy or percentile.")] = "minmax",
    calibration_images: Annotated[int, option("Images that calibrate int8.")] = 1024,
    json_: Json = False,
) -> None:
    """Write a checkpoint as ONNX with its ModelInfo, checked against torch on real faces.

    The softmax temperature is fitted on the validation split and stored in the file.
    """
    require_extra("train", ("torch", "onnx", "onnxscript", "pyarrow"), "`mien export`")
    if calibration_images < 1:
        raise ModelError("--calibration-images must be at least 1.")
    from mien.data import make_splits, read_for_protocol
    from mien.data.dataset import Splits
    from mien.evaluate.samples import recorded_as
    from mien.export import default_licence, export_onnx
    from mien.train import load_checkpoint

    classifier = load_checkpoint(checkpoint)
    dataset = read_for_protocol(data, classifier.info.protocol)
    saved = checkpoint.parent / "splits.json"
    if saved.exists():
        splits = Splits.load(saved)
    else:
        splits = make_splits(dataset, classifier.info.protocol, seed=classifier.info.seed or 0)
    val_name = recorded_as(dataset.name, splits.published_name("val"))
    changes = {"name": name} if name else {}
    changes["licence"] = licence or default_licence(classifier.info.training_data)
    result = export_onnx(
        classifier,
        out or Path(f"{name or classifier.info.name}.onnx"),
        splits.select(dataset, "train"),
        splits.select(dataset, "val"),
        int8=int8,
        val_name=val_name,
        calibration=calibration_images,
        method=calibration_method,
        tolerance=None if int8_tolerance is None else int8_tolerance / 100,
        **changes,
    )
    if json_:
        typer.echo(json.dumps(result.to_dict() | {"split": val_name}))
        return
    say(
        f"{result.path}: {result.info.precision}, {result.size / 1e6:.2f} MB, temperature "
        f"{result.info.temperature}; {val_name} accuracy {result.accuracy:.4f} (float32 "
        f"{result.float_accuracy:.4f}); largest logit difference {result.parity:.2g}"
    )
