"""Write a reproduction's record as JSON, as Markdown with charts, and as one HTML page.

The record is what :mod:`mien.reproduce.assemble` makes: plain JSON, accuracies as fractions, null
for what is missing, "not run" for runs that were not done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from mien import atomic
from mien.data.dataset import FaceDataset
from mien.errors import DataError
from mien.report.document import Block, Document, Section, Text, slug
from mien.report.html import to_html
from mien.report.markdown import CHARTS, to_markdown
from mien.report.svg import standalone
from mien.reproduce.extras import extra_sections
from mien.reproduce.photos import photo_section
from mien.reproduce.run_sections import run_sections
from mien.reproduce.score_sections import done_seeds
from mien.reproduce.sections import (
    cards,
    class_section,
    comparison_section,
    data_section,
    earlier_section,
    headline_section,
    remark_section,
    sample_section,
    time_section,
)

Record = Mapping[str, Any]

SCHEMA = 1
#: With more runs than this, runs that were not done have no section of their own.
_MANY = 6

_FOOTER = (
    "Made by mien reproduce. Accuracy is how often a network agrees with the labels that people "
    "gave to pictures of faces. An expression is not a feeling."
)


def write_reproduction(
    result: dict[str, Any],
    folder: str | Path,
    dataset: FaceDataset | Iterable[FaceDataset] | None = None,
) -> dict[str, Path]:
    """Write ``reproduction.json``, ``.md`` with ``charts/*.svg``, and ``.html`` into ``folder``.

    Absolute paths in the record's commands are cut to their last part, so that the JSON and the
    Markdown can be published. The HTML page shows faces of ``dataset``: it is for its reader only.

    Args:
        result: the record, schema 1.
        folder: made if it is missing.
        dataset: one or several datasets whose classes are to be shown with sample images.

    Returns:
        "json", "markdown", "html" -> path.

    Raises:
        DataError: the record has another schema or lacks its system.
        OutputError: the folder cannot be made or a file cannot be written.
    """
    check_record(result)
    result = published(result)
    datasets = [dataset] if isinstance(dataset, FaceDataset) else list(dataset or ())
    document = build_document(result, datasets)
    target = atomic.make_folder(folder)
    drawn = document.charts()
    if drawn:
        atomic.make_folder(target / CHARTS)
    for chart in drawn:
        atomic.write_text(target / CHARTS / f"{chart.name}.svg", standalone(chart.svg))
    _remove_stale(target / CHARTS, {f"{chart.name}.svg" for chart in drawn})
    texts = {
        "json": _json(result),
        "markdown": to_markdown(document),
        "html": to_html(document),
    }
    suffix = {"json": "json", "markdown": "md", "html": "html"}
    paths = {kind: target / f"reproduction.{suffix[kind]}" for kind in texts}
    for kind, words in texts.items():
        atomic.write_text(paths[kind], words)
    return paths


def _json(result: Record) -> str:
    """Indented, with every row of numbers on one line."""
    text = json.dumps(result, ensure_ascii=False, allow_nan=False, indent=1)
    figure = r"(?:-?\d[\d.eE+-]*|null)"
    row = re.compile(rf"\[\s*(?:{figure},\s*)*{figure}\s*\]")
    return row.sub(lambda found: " ".join(found[0].split()), text) + "\n"


def check_record(result: Record, name: str = "This record") -> None:
    """Raise DataError unless ``result`` is a record that this module reads."""
    if result.get("schema") != SCHEMA or not result.get("system"):
        raise DataError(
            f"{name} is no reproduction of schema {SCHEMA}: write it anew with mien reproduce."
        )


def _remove_stale(folder: Path, kept: set[str]) -> None:
    """Remove the charts that an earlier report left and this one has not."""
    for old in folder.glob("*.svg"):
        if old.name not in kept:
            old.unlink()


def published(value: Any, key: str = "") -> Any:
    """``value`` without the folders of this machine: "--out /a/runs/x" -> "--out x"."""
    if isinstance(value, Mapping):
        return {k: published(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [published(v, key) for v in value]
    if isinstance(value, str) and key == "command":
        return re.sub(
            r"(?<![\w.~-])(?:~|[A-Za-z]:)?[/\\][^\s'\"]+",
            lambda found: PurePath(found[0].replace("\\", "/").rstrip("/")).name,
            value,
        )
    return value


def build_document(result: Record, datasets: Sequence[FaceDataset] = ()) -> Document:
    """The report of ``result``: with one run flat, with several one group of sections each."""
    runs = list(result.get("runs") or ())
    found: list[Section | None] = [headline_section(result), time_section(result)]
    if len(runs) == 1:
        own = run_sections(
            runs[0], _printed(result, runs[0]), _final(result, runs[0]), folded=False
        )
        found += [*own, comparison_section(result)] if done_seeds(runs[0]) else own
    else:
        found.append(comparison_section(result))
        found += [_group(run, result, len(runs)) for run in runs]
    found += extra_sections(result)
    found += [class_section(result), sample_section(datasets), photo_section(result, datasets)]
    found += [remark_section(result), earlier_section(result), data_section(result)]
    sections = [section for section in found if section]
    if len(runs) == 1:
        sections = _in_order(sections, str(runs[0]["id"]))
    day = str(result.get("created") or "")[:10]
    budget = f"{result['budget']} budget" if result.get("budget") else ""
    subtitle = " · ".join(w for w in (str(result.get("citation") or ""), budget, day) if w)
    title = str(result.get("title") or result["system"])
    return Document(title, subtitle, sections, cards(result), _FOOTER)


def _in_order(sections: list[Section], run_id: str) -> list[Section]:
    """One run's deviations and recipe after the data and the photos, before the provenance."""
    late = {f"{slug(run_id)}-{part}" for part in ("deviations", "recipe")}
    early = [s for s in sections if s.id not in late]
    moved = [s for s in sections if s.id in late]
    at = next(i for i, s in enumerate(early) if s.id in ("remarks", "provenance"))
    return early[:at] + moved + early[at:]


def _printed(result: Record, run: Record) -> Record | None:
    """The paper's table of epochs if it belongs to ``run``."""
    tables = result.get("printed_epochs") or []
    for table in [tables] if isinstance(tables, Mapping) else tables:
        if table.get("run") == run["id"]:
            return dict(table)
    return None


def _final(result: Record, run: Record) -> Record:
    """The paper's figures of ``run`` in the comparison table."""
    for row in result.get("comparison") or ():
        if row.get("run") == run["id"]:
            return dict(row.get("paper") or {})
    return {}


def _group(run: Record, result: Record, n: int) -> Section | None:
    """All sections of one run of several, below its name."""
    done = bool(done_seeds(run))
    if not done and n > _MANY:
        return None
    children = run_sections(run, _printed(result, run), _final(result, run), folded=True)
    lead: list[Block] = [] if done else [Text(_why_not_run(run), note=True)]
    return Section(
        f"run-{slug(str(run['id']))}", str(run.get("label") or run["id"]), lead, children
    )


def _why_not_run(run: Record) -> str:
    why = str(run.get("why_not_run") or "")
    return f"This run was not run{f': {why}' if why else '.'}"
