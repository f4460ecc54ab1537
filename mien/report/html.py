"""A report as one self-contained HTML page: no script, no outside request, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from mien.atomic import make_folder, write_text
from mien.emotions import has_colour
from mien.errors import OutputError
from mien.report import document as doc
from mien.report.markdown import to_markdown
from mien.report.svg import STYLE, class_colour, page_style


def to_html(document: doc.Document) -> str:
    """The whole page; images of a dataset are in it if the document holds any."""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in document.notes)
    cards = "".join(_card(*card) for card in document.cards)
    body = "\n".join(
        [
            _navigation(document.sections) if len(document.sections) > 3 else "",
            notes,
            f'<div class="cards">{cards}</div>' if cards else "",
            *(_section(section, 2) for section in document.sections),
        ]
    )
    return page(document.title, document.subtitle, body, escape(document.footer))


def page(title: str, subtitle: str, body: str, footer: str, style: str = "") -> str:
    """A page of HTML that needs nothing else: the one frame of everything that mien writes.

    Args:
        title, subtitle: plain text.
        body, footer: HTML.
        style: CSS that only this page needs.
    """
    template = resources.files("mien.report").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(title),
        style=f"{STYLE}\n{page_style()}{style}",
        subtitle=escape(subtitle),
        body=body,
        footer=footer,
    )


def _card(name: str, value: str, below: str) -> str:
    return (
        f'<div class="card"><p class="name">{escape(name)}</p>'
        f'<p class="value{_verdict(value)}">{escape(value)}</p>'
        f'<p class="under">{escape(below)}</p></div>'
    )


def _verdict(text: str) -> str:
    """The class of a cell that is a verdict: " is-met", " is-not-run"."""
    return f" is-{text.replace(' ', '-')}" if text in doc.VERDICTS else ""


def _navigation(sections: Sequence[doc.Section]) -> str:
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


def _section(section: doc.Section, level: int) -> str:
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


def _block(block: doc.Block) -> str:
    if isinstance(block, doc.Text):
        kind = ' class="note"' if block.note else ' class="say"'
        head = f"<b>{escape(block.title)}.</b> " if block.title else ""
        return f"<p{kind}>{head}{escape(block.text)}</p>"
    if isinstance(block, doc.Table):
        return _table(block)
    if isinstance(block, doc.Charts):
        drawn = "".join(_figure(chart) for chart in block.charts)
        return f'<div class="charts">{drawn}</div>'
    if isinstance(block, doc.Pairs):
        rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in block.rows)
        return f"<dl>{rows}</dl>"
    return _gallery(block)


def _figure(chart: doc.Chart) -> str:
    words = f"<b>{escape(chart.title)}.</b> {escape(chart.caption)}".strip()
    return f'<figure class="chart">{chart.svg}<figcaption>{words}</figcaption></figure>'


def _table(table: doc.Table) -> str:
    kinds = [
        " ".join(["text"] * (i < table.left) + ["wrap"] * (i in table.wrap))
        for i in range(len(table.header))
    ]
    classes = [f' class="{kind}"' if kind else "" for kind in kinds]
    head = "".join(
        f'<th scope="col"{kind}>{escape(cell)}</th>'
        for cell, kind in zip(table.header, classes, strict=True)
    )
    shades = table.shades or [()] * len(table.rows)
    body = []
    for row, shaded in zip(table.rows, shades, strict=True):
        cells = [_chip(row[0]) if table.chips else _cell(row[0])]
        names = max(table.left, 1)
        cells += [_cell(text) for text in row[1:names]]
        for text, shade in zip_longest(row[names:], shaded):
            cells.append(_cell(text) if shade is None else _shaded(text, shade))
        body.append(
            f'<tr><th scope="row"{classes[0]}>{cells[0]}</th>'
            + "".join(f"<td{k}>{c}</td>" for c, k in zip(cells[1:], classes[1:], strict=True))
            + "</tr>"
        )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    kind = _verdict(text)
    return f'<span class="verdict{kind}">{escape(text)}</span>' if kind else escape(text)


def _shaded(text: str, shade: float) -> str:
    mix = f"color-mix(in srgb,var(--gap) {100 * shade:.0f}%,transparent)"
    return f'<span class="shade" style="background:{mix}">{escape(text)}</span>'


def _chip(name: str) -> str:
    """``name`` after its colour, if it is a class."""
    if not has_colour(name):
        return escape(name)
    return f'<i class="chip" style="background:{class_colour(name)}"></i>{escape(name)}'


def _gallery(gallery: doc.Gallery) -> str:
    parts = []
    for name, faces in gallery.rows:
        images = "".join(_face(face) for face in faces)
        head = f"<p>{_chip(name)}</p>" if name else ""
        kind = "faces" if name else "faces bare"
        parts.append(f'<div class="{kind}">{head}<div>{images}</div></div>')
    return f'<div class="flow">{"".join(parts)}</div>' if gallery.flow else "".join(parts)


def _face(face: doc.Face) -> str:
    below = "".join(f"<span>{_chip(line)}</span>" for line in face.caption.split("\n") if line)
    return (
        f'<span class="one"><img alt="{escape(face.label, quote=True)}" '
        f'src="data:image/png;base64,{png_base64(face.image)}">{below}</span>'
    )


def png_base64(image: NDArray[np.uint8]) -> str:
    """A uint8 image (H, W) or BGR (H, W, 3) as PNG for a ``data:`` address."""
    import cv2

    done, buffer = cv2.imencode(".png", image)
    if not done:
        raise OutputError(f"An image of shape {image.shape} cannot be written as PNG.")
    return base64.b64encode(buffer.tobytes()).decode("ascii")


def write_files(
    folder: str | Path, stem: str, record: str, document: doc.Document
) -> dict[str, Path]:
    """Write ``stem.json`` (``record``, JSON), ``stem.md`` and ``stem.html`` into ``folder``.

    Returns:
        "json", "markdown", "html" -> path.

    Raises:
        OutputError: the folder cannot be made or a file cannot be written.
    """
    target = make_folder(folder)
    texts = {
        "json": ("json", f"{record.rstrip()}\n"),
        "markdown": ("md", to_markdown(document)),
        "html": ("html", to_html(document)),
    }
    paths = {kind: target / f"{stem}.{ending}" for kind, (ending, _) in texts.items()}
    for kind, (_, text) in texts.items():
        write_text(paths[kind], text)
    return paths
