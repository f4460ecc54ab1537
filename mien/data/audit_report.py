"""An audit as two tables and as a page with images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mien.data.audit import Audit
from mien.data.dataset import FaceDataset
from mien.data.duplicates import NEAR_CORRELATION
from mien.report import html
from mien.report.document import Document, Face, Gallery, Section, Table, Text

_NEAR = f"(correlation at least {NEAR_CORRELATION:g})"


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
            (f"{named} images with an exact duplicate in {s or 'no split'}", f"{twins[s]:,}")
            for s in earlier
        ]
        if len(earlier) > 1:
            rows.append(
                (f"{named} images with an exact duplicate in any of them", f"{twins['any']:,}")
            )
        rows.append((f"{named} without exact duplicates", f"{audit.twin_free[later]:,}"))
    rows += [
        ("groups of copies with conflicting labels", f"{len(audit.conflicts):,}"),
        (f"nearly equal pairs {_NEAR} within a split", f"{audit.near_within:,}"),
        (f"nearly equal pairs {_NEAR} across splits", f"{audit.near_across:,}"),
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


def tables(audit: Audit) -> tuple[Table, Table]:
    """Images by split and class, and the findings."""
    counts = [
        [split or "(none)", *(f"{v:,}" for v in by.values()), f"{sum(by.values()):,}"]
        for split, by in audit.counts.items()
    ]
    header = ["split", *audit.classes, "all"]
    return Table(header, counts), Table(["what", "figure"], findings(audit))


def render_html(audit: Audit, dataset: FaceDataset, limit: int = 60) -> str:
    """One page without outside requests: tables, and up to ``limit`` examples of every finding.

    Args:
        dataset: the one that was audited; its images are embedded, so the page falls under the
            dataset's licence.
    """
    split_of = dict(zip(dataset.ids.tolist(), dataset.splits.tolist(), strict=True))
    across = [g for g in audit.exact_groups if len({split_of[i] for i in g}) > 1]
    near = sorted(audit.near_pairs, key=lambda p: split_of[p[0]] == split_of[p[1]])
    nearly = (
        f"Different files {_NEAR}: mostly copies of one image, in a studio series also two moments "
        "of one sitting. Pairs across splits come first."
    )
    found: list[tuple[str, str, Sequence[Sequence[str]]]] = [
        (
            "Copies with conflicting labels",
            "The same image under different labels.",
            audit.conflicts,
        ),
        ("Copies across splits", "The same image in more than one split.", across),
        ("Nearly equal pairs", nearly, [pair[:2] for pair in near]),
        ("Constant images", "They show nothing.", [[i] for i in audit.constant]),
    ]
    if audit.not_a_face is not None:
        said = "FER+ raters gave “not a face” more votes than anything else."
        found.append(("Not a face", said, [[i] for i in audit.not_a_face]))
    counts, figures = tables(audit)
    sections = [
        Section("counts", "Images by split and class", [counts]),
        Section("findings", "Findings", [figures]),
        *(_section(dataset, *finding, limit) for finding in found),
    ]
    footer = f"SHA-256 of images, labels and ids: {audit.sha256}"
    return html.to_html(Document(f"Audit of {audit.name}", audit.source, sections, footer=footer))


def _section(
    dataset: FaceDataset, title: str, said: str, groups: Sequence[Sequence[str]], limit: int
) -> Section:
    anchor, groups = title.lower().replace(" ", "-"), [g for g in groups if g]
    if not groups:
        return Section(anchor, title, [Text("None.")])
    rows = []
    for group in groups[:limit]:
        ids = np.array(list(group)[:12], dtype=np.str_)
        rows.append(("", [_face(dataset, row) for row in dataset.indices_of(ids).tolist()]))
    if len(groups) > limit:
        said += f" The first {limit:,} are shown."
    return Section(anchor, f"{title}: {len(groups):,}", [Text(said), Gallery(rows, flow=True)])


def _face(dataset: FaceDataset, row: int) -> Face:
    label, key = dataset.classes[int(dataset.labels[row])].value, str(dataset.ids[row])
    below = f"{label}\n{dataset.splits[row]}\n{key.split(':', 1)[-1]}"
    return Face(dataset.images[row], f"{label}, {key}", below)
