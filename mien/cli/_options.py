"""Options and arguments that several verbs share, and the model that an argument names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mien.errors import require_extra


def option(help: str, *names: str, **more: Any) -> Any:
    """An option: what it is, then its names where they are not the parameter's."""
    return typer.Option(*names, help=help, **more)


def argument(help: str, **more: Any) -> Any:
    """An argument, and what it is."""
    return typer.Argument(help=help, **more)


def load_model(model: str) -> Any:
    """Anything with ``info`` and ``predict_proba``; torch is imported for a checkpoint only."""
    if model.endswith(".ckpt"):
        require_extra("train", ("torch",), "A checkpoint")
        from mien.train import load_checkpoint

        return load_checkpoint(model)
    from mien.classify import load_classifier

    return load_classifier(model)


Device = Annotated[
    str,
    option(
        "Where the model runs: cpu, cuda, coreml, directml, openvino, or auto for the best "
        "that is there.",
        "--device",
    ),
]
Prior = Annotated[
    str | None,
    option(
        "How frequent the expressions are: balanced (all equally likely), fer2013; default "
        "as in the model's training.",
        "--prior",
    ),
]

MODEL_HELP = "A .ckpt, an .onnx file or a shipped model's name."
ScoredModel = Annotated[str, argument(MODEL_HELP)]
ScoredModelOrNone = Annotated[str | None, argument(MODEL_HELP)]
#: A model of the runtime half.
Model = Annotated[str | None, option("A shipped model's name or an .onnx file.")]
Data = Annotated[Path | None, option("Dataset in any published form, or a folder with one.")]
Name = Annotated[str | None, option("Which dataset of a folder of several.")]
Split = Annotated[
    str, option("PublicTest (val), PrivateTest (test; once, at the end), train, or all.")
]
Fold = Annotated[int | None, option("Fold of a cross-validation protocol.")]
Flip = Annotated[bool, option("Average with the mirrored face.", "--flip")]
Tta = Annotated[str, option("Test-time augmentation: none, flip, or ten (flip × 5 places).")]
#: The name of --tta in version 0.1.
Views = Annotated[str, typer.Option(hidden=True)]
BatchSize = Annotated[int, option("Faces per call.", min=1)]
Json = Annotated[bool, option("Print one JSON object.", "--json")]
OutJson = Annotated[Path | None, option("Also write the JSON to this file.")]
Detector = Annotated[str, option("yunet, haar, or none (same as --faces).")]
Faces = Annotated[bool, option("The images already are faces: detect nothing.", "--faces")]
GroupBy = Annotated[
    str | None,
    option("What in a photo's path names the person or video it shows.", metavar="REGEX"),
]
MinFace = Annotated[
    float | None,
    option(
        "Smallest face to find, as a fraction of the long side; as small as is cheap if left out."
    ),
]
MinConfidence = Annotated[
    float, option("Leave out faces whose top expression is less probable than this, 0 to 1.")
]
MinQuality = Annotated[float, option("Leave out faces whose quality is below this, 0 to 1.")]
Checkpoint = Annotated[
    float, option("Seconds between savings: what a killed run loses.", "--checkpoint", min=0)
]
Browser = Annotated[bool, option("Open the browser, or only say where.", "--browser/--no-browser")]
#: The same for videos and cameras, whose every frame is looked at.
VideoDetector = Annotated[str, option("yunet or haar.", "--detector")]
VideoMinFace = Annotated[float, option("Smallest face to find, as a fraction of the long side.")]
Parquet = Annotated[str | None, option("Write Parquet (needs pyarrow).", metavar="FILE")]
Csv = Annotated[str | None, option("Write CSV, one row per face; - prints it.", metavar="FILE")]

# Of the verbs that train.
TrainDevice = Annotated[str, option("auto, cpu or cuda.", "--device")]
Seed = Annotated[int, option("Seed of weights, order and augmentation.")]
Set = Annotated[list[str] | None, option("key=value, e.g. optimizer.lr=0.05.", "--set")]
RunFolder = Annotated[Path | None, option("Run folder (default: runs/RECIPE-seedN).", "--out")]
Resume = Annotated[bool, option("Continue the run in --out.", "--resume")]
DryRun = Annotated[bool, option("Two epochs on 64 samples.", "--dry-run")]
TrainEngine = Annotated[
    str, option("local: one training after the other; ray: as many as a cluster holds.", "--engine")
]
Address = Annotated[str | None, option("A running Ray cluster: auto, or its address.")]
Cpus = Annotated[float, option("CPUs of each training under Ray.", min=0)]
Gpus = Annotated[float, option("GPUs of each training under Ray.", min=0)]
Runs = Annotated[Path, option("Folder of the trainings.")]
Precision = Annotated[str, option("auto, 32 or bf16; of fresh runs.")]
