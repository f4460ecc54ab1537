"""A report as Markdown with its charts as SVG files beside it; no image of a dataset."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from mien.report.document import Block, Charts, Document, Pairs, Section, Table, Text

#: The folder of the charts, beside the Markdown file.
CHARTS = "charts"


def to_markdown(document: Document) -> str:
    """The whole report; it refers to ``charts/NAME.svg`` for every chart."""
    parts = [f"# {plain(document.title)}", plain(document.subtitle)]
    parts += [f"> **Note.** {plain(note)}" for note in document.notes]
    parts.append(_contents(document.sections))
    for section in document.sections:
        parts += _section(section, 2)
    if document.footer:
        parts.append(f"---\n\n{plain(document.footer)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """``text`` with Markdown's and HTML's own characters escaped, on one line."""
    joined = " ".join(text.split())
    safe = joined.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]])", r"\\\1", safe)


def _contents(sections: Sequence[Section]) -> str:
    kept = [section for section in sections if not section.html_only]
    return "\n".join(f"- [{plain(section.title)}](#{section.id})" for section in kept)


def _section(section: Section, level: int) -> list[str]:
    if section.html_only:
        return []
    inner = [part for part in map(_block, section.blocks) if part]
    inner += [part for child in section.children for part in _section(child, level + 1)]
    anchor = f'<a id="{section.id}"></a>'
    if section.folded:
        head = f"{anchor}<details><summary>{plain(section.title)}</summary>"
        return [head, *inner, "</details>"]
    return [f"{anchor}\n\n{'#' * min(level, 6)} {plain(section.title)}", *inner]


def _block(block: Block) -> str:
    if isinstance(block, Text):
        head = f"**{plain(block.title)}.** " if block.title else ""
        return f"{'> ' if block.note else ''}{head}{plain(block.text)}"
    if isinstance(block, Table):
        rows = [[plain(cell) for cell in row] for row in block.rows]
        return markdown_table([plain(h) for h in block.header], rows, block.left, block.wrap)
    if isinstance(block, Charts):
        return "\n\n".join(
            f"![{plain(chart.title)}]({CHARTS}/{chart.name}.svg)\n\n"
            f"*{plain(chart.title)}.* {plain(chart.caption)}".rstrip()
            for chart in block.charts
            if chart.name
        )
    if isinstance(block, Pairs):
        return markdown_table(["what", "value"], [[plain(k), plain(v)] for k, v in block.rows], 2)
    return ""


def markdown_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: int = 1,
    words: Collection[int] = (),
) -> str:
    """A table of cells that are Markdown; those of ``left`` and ``words`` are left-aligned."""
    rule = [":--" if i < left or i in words else "--:" for i in range(len(header))]
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
