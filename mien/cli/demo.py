"""``mien demo``: the bundled photo through the whole pipeline, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the painted photo goes.")
    ] = (Path("out/demo.png")),
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name or an .onnx file.")
    ] = None,
) -> None:
    """Analyse a bundled photo, offline, and show the result.

    The photo is NASA's portrait of Eileen Collins, in the public domain.
    """
    from importlib.resources import files

    import cv2
    from rich.console import Console

    from mien import zoo
    from mien.atomic import make_folder, write_bytes
    from mien.cli._table import print_results
    from mien.draw import draw
    from mien.errors import OutputError
    from mien.images import read_image
    from mien.pipeline import Analyzer

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OutputError(f"Cannot write {str(output)!r}: name it .png or .jpg.")
    name = "astronaut.jpg"
    image = read_image(files("mien").joinpath("assets", name).read_bytes(), name=name)
    analyzer = Analyzer(model or zoo.DEFAULT)
    result = analyzer.analyze(image, color="bgr", source=name)
    print_results([result], Console(highlight=False), top=len(analyzer.info.labels))
    make_folder(output.parent)
    _, data = cv2.imencode(output.suffix.lower(), draw(image, result))
    write_bytes(output, data.tobytes())
    sys.stdout.write(f"\nThe painted photo is in {output}\n")
