"""What a fine-tuning found and reached, as a document."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from mien.data.dataset import Splits
from mien.data.own_faces import Findings
from mien.evaluate import Report
from mien.evaluate.page import document as evaluation
from mien.own.divide import quoted
from mien.own.result import FinetuneResult
from mien.report.charts import MOST_CLASSES
from mien.report.document import Block, Chart, Charts, Document, Pairs, Section, Table, Text
from mien.report.html import write_files
from mien.report.svg import Axes, percent_tick, round_ticks, sized
from mien.text import counted

#: A class with fewer scored faces says next to nothing: one more right answer moves it by more
#: than 10 points. And with fewer faces in all, little can be learned.
FEW_SCORED, FEW = 10, 20
#: The last doubling of photos must have gained so much for more to be advised.
GAIN = 0.01

Curve = tuple[tuple[int, float], ...]


def found_lines(found: Findings) -> list[str]:
    """What was found, a line each, for the terminal and the report."""
    lines = [
        f"{counted(found.photos, 'photo')}, {counted(found.faces, 'face')}, "
        f"{len(found.classes):,} classes: "
        + ", ".join(f"{name} {n:,}" for name, n in list(found.classes.items())[:12])
        + (", …" if len(found.classes) > 12 else "")
    ]
    lines += found.left_out_lines() or ["left out: none"]
    if found.empty:
        lines.append(f"no face in class {', '.join(map(repr, found.empty[:5]))}: it is left out")
    if found.several:
        lines.append(f"several faces, largest taken: {counted(found.several, 'photo')}")
    lines.append(
        f"exact duplicates: {found.exact:,}; near duplicates: {counted(found.near, 'pair')}; "
        "they are kept in one split"
    )
    if found.groups:
        but = f"; {_ungrouped(found)}" if found.ungrouped else ""
        lines.append(f"persons or videos: {found.groups:,}, each in one split{but}")
    return lines


def warnings_of(
    found: Findings, splits: Splits, report: Report, curve: Curve = ()
) -> tuple[str, ...]:
    """What makes the figures doubtful, one sentence each."""
    said = []
    small = [name for name, n in found.classes.items() if n < FEW]
    if small:
        said.append(
            f"{quoted(small)} {_has(small)} fewer than {FEW} faces: too few to learn much from."
        )
    support = {c.value: s.support for c, s in report.scores.per_class.items()}
    thin = [name for name, n in support.items() if n < FEW_SCORED and name not in small]
    if thin:
        said.append(
            f"{quoted(thin)} {_has(thin)} fewer than {FEW_SCORED} scored faces: "
            "the figures of a class like that say next to nothing."
        )
    if found.conflicts:
        pair = " and ".join(found.conflicts[0][:2])
        said.append(
            f"{counted(len(found.conflicts), 'face')} lie in two classes, pixel for pixel (first: "
            f"{pair}): no model can be right on both."
        )
    if found.shared:
        said.append(
            f"{counted(len(found.shared), 'person, video or image')} of two of the given splits "
            f"(first: {found.shared[0]}): the figures are too good."
        )
    return (*said, *group_warnings(found), *report.notes)


def group_warnings(found: Findings) -> tuple[str, ...]:
    """A warning of photos without groups."""
    if found.ungrouped:
        nothing = f"{_ungrouped(found)}, so nothing says which of them show the same one"
    elif not found.groups:
        nothing = "Nothing says which photos show the same person"
    else:
        return ()
    return (
        f"{nothing}: if people come several times, the figures are too good; give a group column "
        "or --group-by.",
    )


def _ungrouped(found: Findings) -> str:
    some, first = len(found.ungrouped), found.ungrouped[0]
    return f"{some:,} of {counted(found.faces, 'face')} have no person or video (first: {first})"


def _has(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def would_help(curve: Curve) -> str:
    """Whether more photos would help, by the learning curve's last doubling."""
    if len(curve) < 2:
        return "There are too few photos for a learning curve: more would help."
    (few, before), (many, after) = curve[-2:]
    gain = after - before
    said = f"From {few:,} to {many:,} faces the accuracy went from {before:.1%} to {after:.1%}"
    if gain >= GAIN:
        return f"{said}: more photos would help."
    return f"{said}: more photos of the same kind would help little."


def document(result: FinetuneResult) -> Document:
    """The evaluation's report, with what was found before it and the learning curve."""
    page = evaluation(result.report)
    found, splits = result.findings, result.splits
    sizes = ", ".join(f"{role} {len(ids):,}" for role, ids in splits.ids.items() if len(ids))
    many = len(found.classes) > MOST_CLASSES
    listed = sorted(found.classes.items(), key=lambda c: c[1])[:MOST_CLASSES] if many else None
    rows = [[name, f"{n:,}"] for name, n in listed or found.classes.items()]
    blocks: list[Block] = [
        *(Text(line) for line in found_lines(found)),
        Text(f"{sizes}; by group and class, seed {splits.seed}.", "Splits"),
        Table(["smallest classes" if many else "class", "faces"], rows, chips=True),
    ]
    curve: list[Block] = [Text(would_help(result.curve))]
    if len(result.curve) > 1:
        words = "A linear head on frozen features, by cross-validation in the training part."
        drawn = sized(curve_chart(result.curve))
        curve.append(Charts([Chart("", drawn, "Learning curve", words)]))
    how = Pairs([("Method", result.method), ("Cross-validated", f"{result.validated:.1%}")])
    sections = [
        Section("found", "What was found", blocks),
        Section("more", "Would more photos help?", curve),
        *page.sections,
        Section("training", "How it was learned", [how]),
    ]
    footer = page.footer.replace("mien evaluate", "mien finetune", 1)
    return replace(page, sections=sections, notes=result.warnings, footer=footer)


def curve_chart(curve: Curve) -> str:
    """Accuracy against the number of faces learned from."""
    most = max(n for n, _ in curve)
    low = min(value for _, value in curve)
    x_ticks = round_ticks(0, most, 5)
    y_ticks = round_ticks(max(0.0, low - 0.05), min(1.0, max(v for _, v in curve) + 0.05))
    y_ticks = [tick for tick in y_ticks if tick <= 1.0 + 1e-9]
    axes = Axes((0, x_ticks[-1]), (y_ticks[0], y_ticks[-1]))
    axes.grid(x_ticks, y_ticks, lambda v: f"{v:,.0f}", percent_tick)
    axes.labels("faces learned from", "accuracy")
    axes.curve([n for n, _ in curve], [v for _, v in curve], "var(--accent)")
    for n, value in curve:
        axes.dot(n, value, "var(--accent)", f"{n:,} faces: {value:.1%}")
    return axes.image("Accuracy by number of faces", axes.bottom + 40)


def write_pages(result: FinetuneResult, folder: str | Path) -> dict[str, Path]:
    """report.html (with images of mistakes: local), report.md and report.json."""
    record = {**result.to_dict(), "report": result.report.to_dict()}
    return write_files(folder, "report", json.dumps(record, ensure_ascii=False), document(result))
