"""``mien predict``: images in, expressions out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from mien import zoo
from mien.cli import _options as opt
from mien.cli._console import messages, progress, without_copies
from mien.cli._options import argument, option
from mien.errors import ImageError, MienError, OutputError
from mien.sources import STDIN, LeftOut, find_images, open_stdin, real_path
from mien.text import counted

if TYPE_CHECKING:
    from mien.modelinfo import ModelInfo
    from mien.pipeline import Analyzer
    from mien.results import Result
    from mien.sinks import Sink
    from mien.sinks.grown import GrowingSink


#: From this many images on a progress bar is shown on standard error.
BAR_FROM = 4

#: Images in the printed table, and left-out files and frames that are named, at most.
SHOWN = 500


class _NothingReadError(Exception):
    """No image could be read: what was opened for writing is to be dropped."""


OnError = Callable[[str, MienError], None]


def predict(
    paths: Annotated[
        list[str],
        argument(
            "Images, folders, quoted globs, or - for an image on standard input.", metavar="PATH..."
        ),
    ],
    model: opt.Model = None,
    detector: opt.Detector = "yunet",
    faces: opt.Faces = False,
    min_face: opt.MinFace = None,
    device: opt.Device = "cpu",
    prior: opt.Prior = None,
    min_confidence: opt.MinConfidence = 0.0,
    min_quality: opt.MinQuality = 0.0,
    min_score: Annotated[
        float | None, option("Lowest detection score, 0 to 1 (yunet: 0.6 by default).")
    ] = None,
    top: Annotated[
        int | None,
        option("Expressions per face: rows in the table (3), a list in JSON.", min=1),
    ] = None,
    as_json: Annotated[bool, option("Print JSON lines, one object per image.", "--json")] = False,
    csv: opt.Csv = None,
    parquet: opt.Parquet = None,
    annotate: Annotated[
        str | None, option("Write annotated copies to this folder.", metavar="DIR")
    ] = None,
    output: Annotated[
        str | None,
        option(
            "Write .csv, .parquet or .jsonl by the ending; else annotated copies, a folder.",
            "--output",
            "-o",
            metavar="PATH",
        ),
    ] = None,
    recursive: Annotated[bool, option("Look in sub-folders.", "--recursive/--no-recursive")] = True,
    resume: Annotated[
        bool, option("Go on with a stopped run, or add only what is new.", "--resume")
    ] = False,
    workers: Annotated[
        int, option("Threads that read images and look for faces.", min=1, max=64)
    ] = 1,
    quiet: Annotated[
        bool, option("No table, summary or notes; errors only.", "--quiet", "-q")
    ] = False,
) -> None:
    """Find faces in images and name their expressions.

    Exit codes: 0 every image was read (no face found is an answer), 1 some could not be read,
    2 none could, or an option is wrong.
    """
    if as_json and csv == "-":
        raise typer.BadParameter("--json and --csv - would both print; give --csv a file")
    from mien.pipeline import Analyzer

    analyzer = Analyzer(
        model or zoo.DEFAULT,
        "yunet" if detector == "none" else detector,
        min_face=min_face,
        min_score=min_score,
        min_confidence=min_confidence,
        min_quality=min_quality,
        providers=device,
        prior=prior,
    )
    outputs = _Outputs(csv, parquet, annotate, top=top, as_json=as_json).with_output(output)
    run = _Run(messages(), quiet, outputs)
    if resume and "-" in paths:
        raise typer.BadParameter("standard input cannot be gone on with; leave out --resume")
    sources = every = run.find(paths, recursive)
    outputs.check(every)
    growing = outputs.growing(analyzer) if resume else None
    if growing is not None:
        sources = run.new(every, growing)
        printed = "-" if outputs.csv == "-" else None
        outputs = replace(outputs, csv=printed, parquet=None, jsonl=None)
    looked_at = _looked_at(analyzer, sources, faces or detector == "none", workers, run)
    sinks = outputs.sinks(analyzer.info, paths, every, sources)
    sinks += [growing] if growing is not None else []
    raise typer.Exit(run.write(looked_at, sinks, len(sources)))


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where the results go."""

    csv: str | None
    parquet: str | None
    annotate: str | None
    jsonl: str | None = None
    top: int | None = None
    as_json: bool = False

    def with_output(self, output: str | None) -> _Outputs:
        """``--output`` is one of the others, by its ending."""
        if output is None:
            return self
        kinds = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
        kind = kinds.get(Path(output).suffix.lower(), "annotate")
        if kind == "annotate" and Path(output).suffix and not Path(output).is_dir():
            raise typer.BadParameter(
                f"{output} ends in none of .csv, .parquet and .jsonl; a folder's name has no ending"
            )
        if getattr(self, kind) is not None:
            raise typer.BadParameter(f"--output {output} and --{kind} say the same twice")
        change: dict[str, Any] = {kind: output}
        return replace(self, **change)

    def check(self, sources: list[str | Path]) -> None:
        """Raise OutputError where a table would replace an image to be read, or another table."""
        from mien.sinks import check_table

        if self.parquet is not None:
            check_table("parquet", self.parquet)
        images = {real_path(source) for source in sources if source != STDIN}
        # A glob may hold the table of an earlier call, which is no image.
        images = {p for p in images if p.suffix.lower() not in (".csv", ".jsonl", ".parquet")}
        taken: dict[Path, str] = {}
        targets = {"--csv": self.csv, "--parquet": self.parquet, "--output": self.jsonl}
        for name, target in targets.items():
            if target is None or target == "-":
                continue
            path = real_path(target)
            if path in images:
                raise OutputError(f"{target} is an image to be read; choose another name.")
            if path in taken:
                both = f"{taken[path]} and {name} name the same file, {target}"
                raise OutputError(f"{both}; choose another name for one.")
            taken[path] = name

    def growing(self, analyzer: Analyzer) -> GrowingSink:
        """The tables as ones that a stopped run, or new images, can be added to."""
        from mien.sinks.grown import GrowingSink

        given = {"csv": self.csv, "jsonl": self.jsonl, "parquet": self.parquet}
        targets = {kind: target for kind, target in given.items() if target not in (None, "-")}
        if not targets:
            raise typer.BadParameter("--resume needs a table: --csv, --parquet or -o FILE")
        return GrowingSink(targets, analyzer.info.labels, analyzer.classifier.sha256, self.top)

    def sinks(
        self,
        info: ModelInfo,
        paths: list[str],
        every: list[str | Path],
        sources: list[str | Path],
    ) -> list[Sink]:
        """``sources`` are those of ``every`` that are still to be done."""
        from mien.sinks import AnnotatedSink, CsvSink, JsonLinesSink, ParquetSink

        lines = [t for t in (sys.stdout if self.as_json else None, self.jsonl) if t is not None]
        sinks: list[Sink] = [JsonLinesSink(target, top=self.top) for target in lines]
        if self.csv is not None:
            target = sys.stdout if self.csv == "-" else self.csv
            sinks.append(CsvSink(target, labels=info.labels))
        if self.parquet is not None:
            sinks.append(ParquetSink(self.parquet, labels=info.labels))
        if self.annotate is not None:
            roots = [p for p in paths if p != "-" and Path(p).is_dir()]
            files = [s for s in every if s != "-"]
            copies = AnnotatedSink(self.annotate, roots=roots, sources=files)
            todo = set(sources)
            for source in files:  # the names of those that are done are not for new ones
                if source not in todo:
                    copies.name_for(str(source))
            sinks.append(copies)
        return sinks


@dataclass(slots=True)
class _Run:
    """One call: what was read, what was not, and what is said of it."""

    console: Console
    quiet: bool
    outputs: _Outputs
    failed: int = 0
    left_out: int = 0
    unread: int = 0
    noted: int = 0
    done: int = 0
    faces: int = 0
    before: int = 0
    shown: list[Result] = field(default_factory=list)

    def new(self, sources: list[str | Path], growing: GrowingSink) -> list[str | Path]:
        """Those that are not in the tables yet."""
        from mien.sinks.grown import name_of

        new = [source for source in sources if name_of(source) not in growing.done]
        self.before = len(sources) - len(new)
        return new

    def find(self, paths: list[str], recursive: bool) -> list[str | Path]:
        """Every image meant, each once, in the order given, without copies of an earlier call."""
        left = self._leave_out
        every = find_images(paths, recursive=recursive, on_error=self.report, on_left_out=left)
        found = list(every)
        if self.left_out > SHOWN:
            self.console.print(f"left out: {self.left_out - SHOWN:,} more files")
        return without_copies(found, self.outputs.annotate, self.console, self.quiet)

    def report(self, name: str, error: MienError) -> None:
        self.failed += 1
        self.console.print(f"error: {error}")

    def _leave_out(self, file: LeftOut) -> None:
        self.left_out += 1
        self.unread += file.wanted
        if self.left_out <= SHOWN and (file.wanted or not self.quiet):
            self.console.print(f"left out: {file.path} ({file.reason})")

    def note(self, result: Result) -> None:
        """Say which frame of an animation was read."""
        self.noted += result.frame is not None
        if result.frame is not None and self.noted <= SHOWN and not self.quiet:
            read = f"number {result.frame}, from 0, was read"
            if not result.faces:
                read = "the first ones were searched, and none shows a face"
            self.console.print(
                f"{result.source} has several frames: {read}; mien video reads them all."
            )

    def write(self, looked_at: Iterator[tuple[Result, Any]], sinks: list[Sink], count: int) -> int:
        """Hand every result to the sinks, print what is to be printed; the exit code."""
        printed = self.outputs.as_json or self.outputs.csv == "-" or self.quiet
        with suppress(_NothingReadError), ExitStack() as stack:
            opened = [stack.enter_context(sink) for sink in sinks]
            columns = MofNCompleteColumn(), TimeRemainingColumn()
            hidden = self.quiet or count < BAR_FROM
            bar = stack.enter_context(progress(self.console, *columns, hidden=hidden))
            task = bar.add_task("", total=count)
            for result, image in looked_at:
                for sink in opened:
                    sink.write(result, image)
                if not printed and len(self.shown) < SHOWN:
                    self.shown.append(result)
                self.note(result)
                self.done, self.faces = self.done + 1, self.faces + len(result.faces)
                bar.update(task, completed=self.done + self.failed)
            if not self.done + self.before:
                raise _NothingReadError  # older files of these names stay as they were
        if self.shown:
            self._print_table()
        several = self.done + self.failed > 1 or self.outputs.annotate is not None
        if not self.quiet and (several or self.before):
            self._summary()
        return 2 if not self.done + self.before else 1 if self.failed or self.unread else 0

    def _print_table(self) -> None:
        from mien.cli._table import print_results

        print_results(self.shown, Console(highlight=False), self.outputs.top or 3)
        if self.done > SHOWN:
            self.console.print(f"The table shows {SHOWN}; --csv, --json and --output take all.")

    def _summary(self) -> None:
        parts = [counted(self.done, "image"), counted(self.faces, "face")]
        if self.failed:
            parts.append(f"{self.failed:,} could not be read")
        if self.before:
            parts.append(f"{self.before:,} were done before")
        if self.left_out:
            parts.append(counted(self.left_out, "file") + " left out")
        if self.outputs.annotate is not None and self.done:
            parts.append(f"annotated copies in {self.outputs.annotate}")
        self.console.print(", ".join(parts) + ".")


def _looked_at(
    analyzer: Analyzer, sources: list[str | Path], faces: bool, workers: int, run: _Run
) -> Iterator[tuple[Result, Any]]:
    """Each result, with its image where a sink draws on it; unreadable ones are reported."""
    if run.outputs.annotate is None:
        results = analyzer.analyze_many(sources, faces=faces, on_error=run.report, workers=workers)
        yield from ((result, None) for result in results)
        return
    from mien.images import read_bytes, read_frames
    from mien.video.flow import in_order

    def look(source: str | Path) -> tuple[Any, Any]:
        name = "standard input" if source == "-" else str(source)
        try:
            data, _ = read_bytes(open_stdin() if source == "-" else source, name)
            found = analyzer.find(data, None, faces, name)
            frame = next(islice(read_frames(data, name=name), found.frame or 0, None))
        except ImageError as error:
            return name, error
        return found, frame.image

    with ThreadPoolExecutor(workers) as threads:
        for found, image in in_order(threads, look, sources, workers - 1):
            if isinstance(image, MienError):
                run.report(found, image)
            else:
                yield analyzer.classify([found])[0], image
