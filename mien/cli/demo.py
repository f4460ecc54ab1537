"""``mien demo``: the bundled photo through the whole pipeline, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console

from mien import zoo
from mien.cli._console import wrote
from mien.cli._image import check_name, write_image
from mien.cli._options import Model, option


def demo(
    output: Annotated[Path, option("Where the annotated photo goes.", "--output", "-o")] = (
        Path("out/demo.png")
    ),
    model: Model = None,
) -> None:
    """Analyse a bundled photo, offline, and show the result.

    The photo is NASA's portrait of Eileen Collins, in the public domain.
    """
    from importlib.resources import files

    from mien.cli._table import print_results
    from mien.draw import draw
    from mien.images import read_image
    from mien.pipeline import Analyzer

    check_name(output)
    name = "astronaut.jpg"
    image = read_image(files("mien").joinpath("assets", name).read_bytes(), name=name)
    analyzer = Analyzer(model or zoo.DEFAULT)
    result = analyzer.analyze(image, color="bgr", source=name)
    print_results([result], Console(highlight=False), top=len(analyzer.info.labels))
    write_image(output, draw(image, result))
    wrote(output)
