"""A robustness report as a document: its page, its Markdown and its curves; no image of anybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien import atomic
from mien.report import markdown
from mien.report.document import (
    Block,
    Chart,
    Charts,
    Document,
    Pairs,
    Section,
    Table,
    Text,
    figure,
    percent,
)
from mien.report.html import write_files
from mien.report.plots import Panel, panels
from mien.report.svg import round_ticks, standalone
from mien.robustness.corruptions import CORRUPTIONS
from mien.robustness.report import RobustnessReport, points, provenance, ratio, title


def document(report: RobustnessReport, against: Mapping[str, Any] | None = None) -> Document:
    """The report; ``against`` is the answer of :func:`corruption_error`, if any."""
    lines = "Severity 0 is the untouched image. Each line is the mean of a corruption's variants."
    drawn = Chart("curves", curves(report), "Accuracy against severity", lines)
    said = (
        f"Clean: {percent(report.clean.accuracy)}. Mean of the corruptions: "
        f"{percent(report.mean.accuracy)}, {percent(report.retained, 1)} of the clean accuracy."
    )
    accuracy: list[Block] = [Text(said), grid_table(report)]
    if against is not None:
        accuracy.append(
            Text(
                f"Corruption error relative to {against['baseline']}: mean "
                f"{figure(against['mce'])}, relative {figure(against['relative_mce'])} (below 1: "
                "better than the baseline)."
            )
        )
    sections = [
        Section("curves", "Accuracy against severity", [Charts([drawn])], html_only=True),
        Section("cells", "Every cell", accuracy),
        Section("how", "How this was made", [Pairs(provenance(report))]),
    ]
    if report.framing:
        said = (
            "Points lost, ± twice the paired standard error. FER2013 has nothing outside its "
            "frame: the edge is repeated."
        )
        table = framing_table(report)
        sections.insert(2, Section("framing", "When the crop misses", [table, Text(said)]))
    subtitle = f"{report.run['version']} · {report.n:,} faces · {report.created[:10]}"
    cards = _cards(report, against)
    return Document(title(report), subtitle, sections, cards, _FOOTER, report.notes)


_FOOTER = (
    "Made by mien robustness. The corruptions are drawn, not met in the world: they say what a "
    "classifier can take, not how often it will have to."
)


def curves(report: RobustnessReport) -> str:
    """Accuracy against severity, a panel a group of corruptions, two panels a row."""
    levels = (0, *report.severities)
    highest = max([report.clean.accuracy, *(c.accuracy for c in report.cells)])
    ticks = [t for t in round_ticks(0.0, highest, 5) if t <= 1.0 + 1e-9]
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name in report.corruptions:
        c = CORRUPTIONS[name]
        ys = [report.clean.accuracy, *(report.cell(name, s).accuracy for s in levels[1:])]
        groups.setdefault(c.group, {})[c.title] = list(zip(levels, ys, strict=True))
    drawn = [Panel(group, lines, ticks) for group, lines in groups.items()]
    columns = min(2, len(drawn))
    return panels(drawn, levels, "Accuracy against severity", columns=columns, dots=True)


def _cards(
    report: RobustnessReport, against: Mapping[str, Any] | None
) -> list[tuple[str, str, str]]:
    worst = min(report.corruptions, key=lambda n: report.corruption(n).accuracy)
    scope = f"{len(report.corruptions)} corruptions, {len(report.severities)} severities"
    cards = [
        ("mean accuracy when corrupted", percent(report.mean.accuracy, 1), scope),
        ("clean", percent(report.clean.accuracy, 1), f"{report.n:,} faces"),
        ("of it left", percent(report.retained, 0), "mean of the corruptions"),
        ("worst", percent(report.corruption(worst).accuracy, 1), CORRUPTIONS[worst].title),
    ]
    for name, lost in list(report.framing.items())[:3]:
        under = f"± {200 * lost.error:.1f} points"
        cards.append((f"crop {name.split(',')[0]}", points(lost).split(" ")[0], under))
    if against is not None:
        below = str(against["baseline"])
        cards.append(("mean corruption error", figure(against["mce"], 2), below))
    return cards


def grid_table(report: RobustnessReport) -> Table:
    """Accuracy by corruption and severity; the shade is the share of the clean accuracy lost."""
    clean = report.clean.accuracy
    rows, shades = [], []
    for name in report.corruptions:
        c = CORRUPTIONS[name]
        found = [report.cell(name, s).accuracy for s in report.severities]
        found.append(report.corruption(name).accuracy)
        about = f"{c.strengths[0]:g} … {c.strengths[-1]:g} {c.unit}"
        kept = ratio(found[-1], clean)
        rows.append([c.title, about, *(percent(v, 1) for v in found), percent(kept, 0)])
        shades.append([1 - min(1.0, ratio(v, clean)) if clean else 0.0 for v in found])
    mean = [percent(report.mean.accuracy, 1), percent(report.retained, 0)]
    rows.append(["all", "", *[""] * len(report.severities), *mean])
    shades.append([])
    header = ["corruption", "strength", *(f"severity {s}" for s in report.severities)]
    return Table([*header, "mean", "of clean"], rows, left=2, shades=shades)


def framing_table(report: RobustnessReport) -> Table:
    """What is lost when the crop misses."""
    rows = [["as published", percent(report.clean.accuracy, 1), ""]]
    rows += [[name, percent(f.accuracy, 1), points(f)] for name, f in report.framing.items()]
    return Table(["crop", "accuracy", "points"], rows)


def to_markdown(report: RobustnessReport, against: Mapping[str, Any] | None = None) -> str:
    """The report as Markdown; ``against`` as in :func:`document`."""
    return markdown.to_markdown(document(report, against))


def write_report(
    report: RobustnessReport, folder: str | Path, against: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """Write ``robustness.json``, ``.md`` and ``.html`` and ``curves.svg`` into ``folder``.

    None of them holds an image of the dataset.

    Returns:
        format -> path.

    Raises:
        OutputError: the folder cannot be made or a file cannot be written.
    """
    record = report.to_dict()
    if against is not None:
        record["corruption_error"] = dict(against)
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1)
    paths = write_files(folder, "robustness", text, document(report, against))
    paths["svg"] = paths["json"].with_name("curves.svg")
    atomic.write_text(paths["svg"], standalone(curves(report)))
    return paths
