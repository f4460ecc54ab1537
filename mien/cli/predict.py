"""``mien predict``: pictures in, expressions out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.errors import ImageError, MienError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from mien.pipeline import Analyzer
    from mien.results import Result
    from mien.sinks import Sink

app = typer.Typer(add_completion=False)

#: From this many pictures on a progress bar is shown on standard error.
BAR_FROM = 4


class _NothingReadError(Exception):
    """No picture could be read: what was opened for writing is to be dropped."""


OnError = Callable[[str, MienError], None]


@app.command()
def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Pictures, folders, quoted globs, or - for a picture on standard input.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name or an .onnx file.")
    ] = None,
    detector: Annotated[
        str, typer.Option(help="yunet, haar, or none (same as --faces).")
    ] = "yunet",
    faces: Annotated[
        bool, typer.Option("--faces", help="The pictures already are faces: detect nothing.")
    ] = False,
    min_face: Annotated[
        float, typer.Option(help="Smallest face to find, as a fraction of the long side.")
    ] = 0.05,
    min_confidence: Annotated[
        float, typer.Option(help="Leave out faces whose expression is less sure than this, 0 to 1.")
    ] = 0.0,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Expressions a face: rows in the table (3), a list in the JSON."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines, one object a picture.")
    ] = False,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write CSV, one row a face; - prints it.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Parquet (needs pyarrow).")
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write painted copies to this folder.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Look in sub-folders.")
    ] = True,
) -> None:
    """Find faces in pictures and name their expressions.

    Exit codes: 0 every picture was read (no face found is an answer), 1 some could not be read,
    2 none could, or an option is wrong.
    """
    if as_json and csv == "-":
        raise typer.BadParameter("--json and --csv - would both print; give --csv a file")
    from rich.console import Console

    from mien import zoo
    from mien.cli._console import messages
    from mien.pipeline import Analyzer

    analyzer = Analyzer(
        model or zoo.DEFAULT,
        "yunet" if detector == "none" else detector,
        min_face=min_face,
        min_confidence=min_confidence,
    )
    console = messages()
    failed: list[str] = []

    def report(name: str, error: MienError) -> None:
        failed.append(name)
        console.print(f"error: {error}")

    sources = _without(annotate, _find(paths, recursive, report))
    if not sources and not failed:
        raise ImageError(f"Nothing is left but painted copies in {annotate}; name other pictures.")
    sinks = _sinks(analyzer, paths, sources, as_json, csv, parquet, annotate, top)
    shown: list[Result] | None = None if as_json or csv == "-" else []
    done = found = 0
    with suppress(_NothingReadError), ExitStack() as stack:
        opened = [stack.enter_context(sink) for sink in sinks]
        bar = stack.enter_context(_progress(console, len(sources)))
        for result, image in _results(
            analyzer, sources, faces or detector == "none", annotate is not None, bar, report
        ):
            for sink in opened:
                sink.write(result, image)
            if shown is not None:
                shown.append(result)
            done, found = done + 1, found + len(result.faces)
        if failed and not done:
            raise _NothingReadError  # older files of these names stay as they were
    if shown:
        from mien.cli._table import print_results

        print_results(shown, Console(highlight=False), top or 3)
    if done + len(failed) > 1 or annotate is not None:
        _summary(console, done, found, len(failed), annotate)
    raise typer.Exit(0 if not failed else 1 if done else 2)


def _find(paths: list[str], recursive: bool, report: OnError) -> list[str | Path]:
    """Every picture meant, each once, in the order given."""
    from mien.sources import find_images

    found = find_images(paths, recursive=recursive, on_error=report)
    return list(dict.fromkeys(found))


def _without(annotate: Path | None, sources: list[str | Path]) -> list[str | Path]:
    """The pictures that are no painted copies of an earlier call: those in ``--annotate``."""
    if annotate is None:
        return sources
    folder = annotate.resolve()
    return [s for s in sources if s == "-" or folder not in Path(s).resolve().parents]


def _sinks(
    analyzer: Analyzer,
    paths: list[str],
    sources: list[str | Path],
    as_json: bool,
    csv: str | None,
    parquet: Path | None,
    annotate: Path | None,
    top: int | None,
) -> list[Sink]:
    from mien.sinks import AnnotatedSink, CsvSink, JsonLinesSink, ParquetSink

    labels = analyzer.info.labels
    sinks: list[Sink] = []
    if as_json:
        sinks.append(JsonLinesSink(sys.stdout, top=top))
    if csv is not None:
        sinks.append(CsvSink(sys.stdout if csv == "-" else csv, labels=labels))
    if parquet is not None:
        sinks.append(ParquetSink(parquet, labels=labels))
    if annotate is not None:
        roots = [p for p in paths if p != "-" and Path(p).is_dir()]
        files = [s for s in sources if s != "-"]
        sinks.append(AnnotatedSink(annotate, roots=roots, sources=files))
    return sinks


def _results(
    analyzer: Analyzer,
    sources: list[str | Path],
    faces: bool,
    keep_image: bool,
    bar: Progress,
    report: OnError,
) -> Iterator[tuple[Result, Any]]:
    """Each result, with its picture where a sink paints; unreadable pictures are reported."""
    task = bar.add_task("", total=len(sources))

    def skip(name: str, error: MienError) -> None:
        report(name, error)
        bar.advance(task)

    if not keep_image:
        for result in analyzer.analyze_many(sources, faces=faces, on_error=skip):
            bar.advance(task)
            yield result, None
        return
    from mien.images import read_image
    from mien.sources import read_stdin

    for source in sources:
        name = "standard input" if source == "-" else str(source)
        try:
            image = read_image(read_stdin() if source == "-" else source, name=name)
            result = analyzer.analyze(image, color="bgr", faces=faces, source=name)
        except MienError as error:
            skip(name, error)
            continue
        bar.advance(task)
        yield result, image


def _progress(console: Console, count: int) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = count < BAR_FROM or not console.is_terminal
    return Progress(*columns, console=console, transient=True, disable=hidden)


def _summary(console: Console, done: int, found: int, failed: int, annotate: Path | None) -> None:
    def count(n: int, word: str) -> str:
        return f"{n:,} {word}{'' if n == 1 else 's'}"

    parts = [count(done, "picture"), count(found, "face")]
    if failed:
        parts.append(f"{failed:,} could not be read")
    if annotate is not None and done:
        parts.append(f"painted copies in {annotate}")
    console.print(", ".join(parts) + ".")
