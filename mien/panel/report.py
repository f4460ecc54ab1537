"""A panel's report as a document: HTML, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mien.panel.run import CONFIDENT, CellScore, PanelReport
from mien.report.charts import bars
from mien.report.document import Chart, Charts, Document, Section, Table, Text
from mien.report.html import write_files


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


_COLUMNS: tuple[tuple[str, Callable[[CellScore], float | None]], ...] = (
    ("found", lambda c: c.found),
    ("accuracy", lambda c: c.accuracy),
    ("of those found", lambda c: c.named),
    ("macro recall", lambda c: c.macro_recall),
    ("calibration error", lambda c: c.ece),
    (f"wrong, ≥ {CONFIDENT:g} and sure", lambda c: c.misleading),
    ("right, but unsure", lambda c: c.right_unsure),
)


def _table(first: str, rows: list[tuple[str, CellScore]]) -> Table:
    header = [first, "photos", *(name for name, _ in _COLUMNS)]
    cells = [[name, f"{c.n:,}", *(_percent(of(c)) for _, of in _COLUMNS)] for name, c in rows]
    return Table(header, cells)


def document(report: PanelReport) -> Document:
    """The report; figures are percent."""
    names = list(dict.fromkeys(c.set for c in report.cells))
    clean = [(n, c) for n in names if (c := report.cell(n)) is not None]
    remarks = " ".join(f"{name}: {text}." for name, text in report.remarks.items() if text)
    sections = [
        Section(
            "clean",
            "Photos as they are",
            [_table("set", clean), Text(remarks, title="The sets")],
        )
    ]
    for name in names:
        rows = [(c.condition, c) for c in report.cells if c.set == name]
        chart = bars([(n, [c.accuracy]) for n, c in rows], f"{name}: accuracy", ("ours",))
        section = Section(
            f"set-{len(sections)}",
            f"{name}, changed",
            [Charts([Chart(f"panel-{len(sections)}", chart, "Accuracy over all photos")])],
            [Section(f"set-{len(sections)}-table", "Figures", [_table("condition", rows)])],
        )
        sections.append(section)
    if report.groups:
        rows_of = [
            [
                f"{g.tag}: {g.group}",
                g.label,
                f"{g.right} of {g.n}",
                _percent(g.right / g.n),
                f"{_percent(g.low)} to {_percent(g.high)}",
            ]
            for g in report.groups
        ]
        header = ["group, as people describe themselves", "photo", "right", "%", "95 % interval"]
        sections.append(Section("groups", "Groups of people", [Table(header, rows_of, left=2)]))
    mean = report.mean(lambda c: c.accuracy, True)
    worse = report.mean(lambda c: c.accuracy, False)
    cards = [
        ("accuracy on clean sets", f"{_percent(mean)} %", "mean over the sets"),
        ("on changed photos", f"{_percent(worse)} %", "mean over sets and conditions"),
    ]
    subtitle = f"{report.model}, {report.half} half, {report.version}"
    return Document("Photo panel", subtitle, sections, cards)


def write_panel(report: PanelReport, folder: Path) -> dict[str, Path]:
    """Write ``panel.json``, ``panel.md`` and ``panel.html`` into ``folder``, which is made."""
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
    return {
        path.name: path for path in write_files(folder, "panel", text, document(report)).values()
    }
