"""Options and arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where the model runs: cpu, cuda, coreml, directml, openvino, or auto for the best "
        "that is there.",
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="How frequent the expressions are: balanced (all equally likely), fer2013; default "
        "as in the model's training.",
    ),
]

MODEL_HELP = "A .ckpt, an .onnx file or a shipped model's name."
ScoredModel = Annotated[str, typer.Argument(help=MODEL_HELP)]
ScoredModelOrNone = Annotated[str | None, typer.Argument(help=MODEL_HELP)]
#: A model of the runtime half.
Model = Annotated[str | None, typer.Option(help="A shipped model's name or an .onnx file.")]
Data = Annotated[
    Path | None, typer.Option(help="Dataset in any published form, or a folder with one.")
]
Name = Annotated[str | None, typer.Option(help="Which dataset of a folder of several.")]
Split = Annotated[
    str, typer.Option(help="PublicTest (val), PrivateTest (test; once, at the end) or train.")
]
Fold = Annotated[int | None, typer.Option(help="Fold of a cross-validation protocol.")]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored face.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Faces per call.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OutJson = Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")]
Detector = Annotated[str, typer.Option(help="yunet, haar, or none (same as --faces).")]
Faces = Annotated[
    bool, typer.Option("--faces", help="The images already are faces: detect nothing.")
]
MinFace = Annotated[
    float | None,
    typer.Option(
        help="Smallest face to find, as a fraction of the long side; as small as is cheap if left "
        "out."
    ),
]
#: The same for videos and cameras, whose every frame is looked at.
VideoDetector = Annotated[str, typer.Option("--detector", help="yunet or haar.")]
VideoMinFace = Annotated[
    float, typer.Option(help="Smallest face to find, as a fraction of the long side.")
]
Parquet = Annotated[str | None, typer.Option(metavar="FILE", help="Write Parquet (needs pyarrow).")]
Csv = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write CSV, one row per face; - prints it.")
]

# Of the verbs that train.
TrainDevice = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. optimizer.lr=0.05.")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", help="Run folder (default: runs/RECIPE-seedN).")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Two epochs on 64 samples.")]
Runs = Annotated[Path, typer.Option(help="Folder of the trainings.")]
Precision = Annotated[str, typer.Option(help="auto, 32 or bf16; of fresh runs.")]
