"""An audit as a table for the terminal and as one self-contained HTML page with pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

import cv2
import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from mien.data.audit import Audit
from mien.data.dataset import FaceDataset
from mien.errors import DataError


def findings(audit: Audit) -> list[tuple[str, str]]:
    """(what, figure) of every finding, in reading order."""
    rows = [("images", f"{audit.images:,}"), ("redundant exact copies", f"{audit.exact_copies:,}")]
    if audit.exact_copies != audit.byte_copies:
        rows.append(("  of them byte-identical in this file", f"{audit.byte_copies:,}"))
    rows += [(f"  within {s or 'no split'}", f"{n:,}") for s, n in audit.exact_within.items() if n]
    for later, twins in audit.twins.items():
        named = later or "no split"
        earlier = [s for s in twins if s != "any"]
        rows += [
            (f"{named} images with a twin in {s or 'no split'}", f"{twins[s]:,}") for s in earlier
        ]
        if len(earlier) > 1:
            rows.append((f"{named} images with a twin in any of them", f"{twins['any']:,}"))
        rows.append((f"{named} without twins", f"{audit.twin_free[later]:,}"))
    rows += [
        ("groups of copies with conflicting labels", f"{len(audit.conflicts):,}"),
        ("near-duplicate pairs within a split", f"{audit.near_within:,}"),
        ("near-duplicate pairs across splits", f"{audit.near_across:,}"),
        ("constant images", f"{len(audit.constant):,}"),
    ]
    if audit.not_a_face is not None:
        rows.append(("not a face (FER+)", f"{len(audit.not_a_face):,}"))
    for split, part in (audit.ferplus_agreement or {}).items():
        rows.append(
            (
                f"FER+ plurality agrees, {split or 'no split'}",
                f"{part['rate']:.1%} of {part['n']:,}",
            )
        )
    if audit.notes:
        rows.append(("bad rows left out", f"{len(audit.notes):,}"))
    return rows


def render_text(audit: Audit) -> RenderableType:
    """Two tables: images by split and class, and the findings."""
    counts = Table(title=f"{audit.name}: images by split and class", title_justify="left")
    counts.add_column("split")
    for name in [*audit.classes, "all"]:
        counts.add_column(name, justify="right")
    for split, by_class in audit.counts.items():
        values = list(by_class.values())
        counts.add_row(split or "(none)", *(f"{v:,}" for v in [*values, sum(values)]))
    table = Table(title="Findings", title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for what, figure in findings(audit):
        table.add_row(what, figure)
    return Group(counts, table, f"SHA-256 of images, labels and ids: {audit.sha256}")


_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#667;--line:#d8dde3;--card:#f5f7f9}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e7eaed;--soft:#9aa4ae;--line:#333a41;
--card:#1d2126}}
*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:1rem;background:var(--bg);
color:var(--fg);font:16px/1.5 system-ui,sans-serif}h1{font-size:1.5rem}h2{font-size:1.15rem;
margin:2rem 0 .3rem}p{margin:.3rem 0;color:var(--soft)}.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.25rem .7rem;
border-bottom:1px solid var(--line);text-align:right;font-weight:400}th{color:var(--soft)}
td:first-child,th:first-child{text-align:left}.groups{display:flex;flex-wrap:wrap;gap:.6rem}
.group{display:flex;flex-wrap:wrap;gap:.3rem;padding:.4rem;background:var(--card);
border-radius:6px;max-width:100%}figure{margin:0;width:76px;font-size:11px;line-height:1.25;
color:var(--soft);overflow-wrap:anywhere}img{width:72px;height:72px;image-rendering:pixelated;
display:block;border-radius:3px}code{overflow-wrap:anywhere}
"""


def _figure(dataset: FaceDataset, row: int) -> str:
    done, data = cv2.imencode(".png", dataset.images[row])
    if not done:
        raise DataError(f"The image of {dataset.ids[row]} cannot be encoded as PNG.")
    text = base64.b64encode(data.tobytes()).decode()
    label = dataset.classes[int(dataset.labels[row])].value
    key, split = escape(str(dataset.ids[row])), escape(str(dataset.splits[row]))
    return (
        f'<figure><img alt="{label}, {key}" src="data:image/png;base64,{text}">'
        f"<b>{label}</b> {split}<br>{key.split(':', 1)[-1]}</figure>"
    )


def _section(
    dataset: FaceDataset, title: str, text: str, groups: Iterable[list[str]], limit: int
) -> str:
    listed = [g for g in groups if g]
    if not listed:
        return f"<section><h2>{escape(title)}: none</h2></section>"
    shown = listed[:limit]
    rows = dataset.indices_of(np.array([i for g in shown for i in g], dtype=np.str_)).tolist()
    blocks = []
    for group in shown:
        own, rows = rows[: len(group)], rows[len(group) :]
        pictures = "".join(_figure(dataset, r) for r in own[:12])
        blocks.append(f'<div class="group">{pictures}</div>')
    more = f" The first {limit:,} are shown." if len(listed) > limit else ""
    return (
        f"<section><h2>{escape(title)}: {len(listed):,}</h2><p>{escape(text)}{more}</p>"
        f'<div class="groups">{"".join(blocks)}</div></section>'
    )


def _table(head: list[str], body: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead>{rows}</table></div>'


def render_html(audit: Audit, dataset: FaceDataset, limit: int = 60) -> str:
    """One page without outside requests: tables, and up to ``limit`` examples of every finding.

    Args:
        dataset: the one that was audited; its pictures are embedded, so the page falls under the
            dataset's licence.
    """
    split_of = dict(zip(dataset.ids.tolist(), dataset.splits.tolist(), strict=True))
    across = [g for g in audit.exact_groups if len({split_of[i] for i in g}) > 1]
    near = sorted(audit.near_pairs, key=lambda p: split_of[p[0]] == split_of[p[1]])
    parts = [
        _section(
            dataset,
            "Copies with conflicting labels",
            "The same picture under different labels.",
            audit.conflicts,
            limit,
        ),
        _section(
            dataset,
            "Copies across splits",
            "The same picture in more than one split.",
            across,
            limit,
        ),
        _section(
            dataset,
            "Near-duplicate pairs",
            "Different files, the same picture; pairs across splits come first.",
            ([a, b] for a, b, _ in near),
            limit,
        ),
        _section(
            dataset, "Constant images", "They show nothing.", ([i] for i in audit.constant), limit
        ),
    ]
    if audit.not_a_face is not None:
        parts.append(
            _section(
                dataset,
                "Not a face",
                "FER+ raters gave “not a face” more votes than anything else.",
                ([i] for i in audit.not_a_face),
                limit,
            )
        )
    counts = [
        [split or "(none)", *(f"{v:,}" for v in by.values()), f"{sum(by.values()):,}"]
        for split, by in audit.counts.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Audit of {escape(audit.name)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Audit of {escape(audit.name)}</h1><p>{escape(audit.source)}</p>"
        f"<p>SHA-256 <code>{audit.sha256}</code></p><h2>Images by split and class</h2>"
        f"{_table(['split', *audit.classes, 'all'], counts)}<h2>Findings</h2>"
        f"{_table(['what', 'figure'], [list(row) for row in findings(audit)])}"
        f"{''.join(parts)}</body></html>"
    )
