"""A report as one self-contained HTML page: no script, no outside request, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

import numpy as np
from numpy.typing import NDArray

from mien.errors import OutputError
from mien.report.document import (
    VERDICTS,
    Block,
    Chart,
    Charts,
    Document,
    Face,
    Gallery,
    Pairs,
    Section,
    Table,
    Text,
)
from mien.report.style import STYLE, page_style
from mien.report.svg import class_colour


def to_html(document: Document) -> str:
    """The whole page; pictures of a dataset are in it if the document holds any."""
    folder = resources.files("mien.report")
    template = folder.joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(document.title),
        style=f"{STYLE}\n{page_style()}",
        subtitle=escape(document.subtitle),
        cards="".join(_card(*card) for card in document.cards),
        navigation=_navigation(document.sections),
        sections="\n".join(_section(section, 2) for section in document.sections),
        footer=escape(document.footer),
    )


def _card(name: str, value: str, below: str) -> str:
    return (
        f'<div class="card"><p class="name">{escape(name)}</p>'
        f'<p class="value{_verdict(value)}">{escape(value)}</p>'
        f'<p class="under">{escape(below)}</p></div>'
    )


def _verdict(text: str) -> str:
    """The class of a cell that is a verdict: " is-met", " is-not-run"."""
    return f" is-{text.replace(' ', '-')}" if text in VERDICTS else ""


def _navigation(sections: Sequence[Section]) -> str:
    links = []
    for section in sections:
        link = f'<a href="#{section.id}">{escape(section.title)}</a>'
        inner = "".join(
            f'<li><a href="#{child.id}">{escape(child.title)}</a></li>'
            for child in section.children
            if not child.folded
        )
        run = ' class="run"' if inner else ""
        links.append(f"<li{run}>{link}{f'<ul>{inner}</ul>' if inner else ''}</li>")
    return f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>'


def _section(section: Section, level: int) -> str:
    inner = "".join(_block(block) for block in section.blocks)
    title = escape(section.title)
    tag = min(level, 4)
    if section.children:
        below = "\n".join(_section(child, level + 1) for child in section.children)
        head = f"<h{tag}>{title}</h{tag}>"
        lead = f'<div class="lead">{inner}</div>' if inner else ""
        return f'<section class="group" id="{section.id}">{head}{lead}\n{below}</section>'
    if section.folded:
        return (
            f'<details class="panel block" id="{section.id}"><summary>{title}</summary>'
            f"{inner}</details>"
        )
    return (
        f'<section class="panel block" id="{section.id}"><h{tag}>{title}</h{tag}>{inner}</section>'
    )


def _block(block: Block) -> str:
    if isinstance(block, Text):
        kind = ' class="note"' if block.note else ' class="say"'
        head = f"<b>{escape(block.title)}.</b> " if block.title else ""
        return f"<p{kind}>{head}{escape(block.text)}</p>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Charts):
        drawn = "".join(_figure(chart) for chart in block.charts)
        return f'<div class="charts">{drawn}</div>'
    if isinstance(block, Pairs):
        rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in block.rows)
        return f"<dl>{rows}</dl>"
    return _gallery(block)


def _figure(chart: Chart) -> str:
    words = f"<b>{escape(chart.title)}.</b> {escape(chart.caption)}".strip()
    return f'<figure class="chart">{chart.svg}<figcaption>{words}</figcaption></figure>'


def _table(table: Table) -> str:
    kinds = [
        " ".join(["text"] * (i < table.left) + ["wrap"] * (i in table.wrap))
        for i in range(len(table.header))
    ]
    rows = [[_cell(text) for text in row] for row in table.rows]
    return html_table([escape(h) for h in table.header], rows, kinds)


def _cell(text: str) -> str:
    kind = _verdict(text)
    return f'<span class="verdict{kind}">{escape(text)}</span>' if kind else escape(text)


def _gallery(gallery: Gallery) -> str:
    parts = []
    for name, faces in gallery.rows:
        pictures = "".join(_face(face) for face in faces)
        chip = f'<i class="chip" style="background:{class_colour(name)}"></i>'
        parts.append(f'<div class="faces"><p>{chip}{escape(name)}</p><div>{pictures}</div></div>')
    return "".join(parts)


def _face(face: Face) -> str:
    below = f"<span>{escape(face.caption)}</span>" if face.caption else ""
    return (
        f'<span class="one"><img alt="{escape(face.label, quote=True)}" '
        f'src="data:image/png;base64,{png_base64(face.image)}">{below}</span>'
    )


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str] = ()
) -> str:
    """A table whose cells are HTML already; ``kinds`` are CSS classes of the columns, if any."""
    classes = [f' class="{kind}"' if kind else "" for kind in kinds]
    classes += [""] * (len(header) - len(classes))
    head = "".join(
        f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(header, classes, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row"{classes[0]}>{row[0]}</th>'
        + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row[1:], classes[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def png_base64(image: NDArray[np.uint8]) -> str:
    """A uint8 picture (H, W) or BGR (H, W, 3) as PNG for a ``data:`` address."""
    import cv2

    done, buffer = cv2.imencode(".png", image)
    if not done:
        raise OutputError(f"A picture of shape {image.shape} cannot be written as PNG.")
    return base64.b64encode(buffer.tobytes()).decode("ascii")
