"""Options that several verbs share."""

from __future__ import annotations

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
        help="How frequent the expressions are: balanced (all alike), fer2013; default as in the "
        "model's training.",
    ),
]
