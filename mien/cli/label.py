"""``mien label PHOTOS``: sort faces into classes on a page, for ``mien finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.cli import _options as opt
from mien.cli._console import say
from mien.cli._options import argument, option


def label(
    photos: Annotated[Path, argument("A folder of photos.")],
    out: Annotated[
        Path | None, option("The CSV to write or go on with (default: PHOTOS.csv).")
    ] = None,
    classes: Annotated[
        str | None, option("Their names, with commas; default: the table's, else the model's.")
    ] = None,
    model: opt.Model = None,
    faces: opt.Faces = False,
    port: Annotated[int, option("Port; 0 takes a free one.")] = 0,
    browser: opt.Browser = True,
) -> None:
    """Sort faces into classes by keyboard; the CSV is what `mien finetune` reads.

    Opens a page on 127.0.0.1 until Ctrl-C. The faces that the model is least sure of come first.
    Every answer is written at once: run the same command again to go on.
    """
    from mien.web import require_web

    require_web("`mien label`")
    import threading

    from mien import zoo
    from mien.atomic import lock
    from mien.classify import available_cores
    from mien.cli.serve import run_app
    from mien.pipeline import Analyzer
    from mien.web.label import Labelling, create_label_app
    from mien.web.settings import Settings, new_token

    if out is None and not photos.resolve().name:
        raise typer.BadParameter(f"{photos} has no name for the table; give one with --out")
    table = out or photos.resolve().with_name(f"{photos.resolve().name}.csv")
    with lock(table):
        analyzer = Analyzer(model or zoo.DEFAULT)
        work = Labelling(photos, table, classes.split(",") if classes else ())
        if not work.classes:
            work.classes = [name.value for name in analyzer.info.labels]
        say(f"{len(work.paths):,} photos; answers are in {table} ({len(work.rows):,} so far)")
        settings = Settings(port=port, token=new_token())
        arguments = (analyzer, faces, available_cores())
        threading.Thread(target=work.look, args=arguments, daemon=True).start()
        try:
            run_app(
                lambda: create_label_app(work, settings, analyzer.info.name),
                settings,
                made_token=True,
                open_browser=browser,
            )
        finally:
            work.stop()
