"""The report as one self-contained HTML page: no script, no external request, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

import numpy as np

from mien.evaluate import plots
from mien.evaluate.report import (
    SUMMARY_ROWS,
    Mistake,
    Report,
    interval,
    provenance,
    summary_cells,
    title,
)
from mien.evaluate.scores import Scores
from mien.report.document import figure, percent
from mien.report.html import html_table, png_base64
from mien.report.plots import confusion_matrix, roc_plot
from mien.report.style import STYLE, page_style
from mien.report.svg import colour


def to_html(report: Report) -> str:
    """The whole page, with the most confident mistakes as pictures in it."""
    template = resources.files("mien.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    scores = report.scores
    return Template(template).substitute(
        title=escape(title(report)),
        style=f"{STYLE}\n{page_style()}",
        subtitle=escape(_subtitle(report)),
        hero=_hero(report),
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        confusion=confusion_matrix([c.value for c in scores.classes], scores.confusion),
        bars=plots.per_class_bars(scores),
        classes=_class_table(scores),
        reliability=plots.reliability_diagram(scores),
        reliability_text=escape(_calibration_text(scores)),
        risk=plots.risk_coverage(scores),
        risk_text=escape(_risk_text(scores)),
        roc=roc_plot(plots.one_vs_rest(scores, scores.roc)),
        pr=plots.pr_curves(scores),
        mistakes=_gallery(report.mistakes),
        figures=_figures(report),
        provenance=_provenance(report),
    )


def _subtitle(report: Report) -> str:
    parts = [f"{report.n:,} faces"]
    if report.protocol:
        parts.append(f"protocol {report.protocol}")
    if report.tta != "none":
        parts.append(f"{report.tta} averaging")
    excluded = sum((report.data.get("excluded") or {}).values())
    if excluded:
        parts.append(f"{excluded:,} left out")
    return " · ".join([*parts, report.created[:10]])


def _hero(report: Report) -> str:
    scores = report.scores
    low, high = scores.intervals["accuracy"]
    band = ""
    if np.isfinite(low):
        band = (
            f'<div class="scale"><span class="band" style="left:{100 * low:.2f}%;'
            f'width:{100 * (high - low):.2f}%"></span><span class="tick" '
            f'style="left:{100 * report.accuracy:.2f}%"></span></div>'
            f'<p class="under">95 % interval {interval(scores, "accuracy")}</p>'
        )
    big = (
        f'<div class="big"><p class="name">accuracy</p><p class="value">'
        f"{percent(report.accuracy)}</p>{band}</div>"
    )
    cards = []
    if report.twin_free is not None:
        twin_free = report.twin_free
        cards.append(
            (
                "without twins",
                percent(twin_free.summary["accuracy"]),
                f"{interval(twin_free, 'accuracy')} on {twin_free.n:,}",
            )
        )
    for name, key in (("macro F1", "macro_f1"), ("balanced accuracy", "balanced_accuracy")):
        cards.append((name, percent(scores.summary[key]), interval(scores, key)))
    cards += [
        ("calibration error", percent(scores.summary["ece"]), "15 bins, lower is better"),
        ("top-2 accuracy", percent(scores.summary["top2_accuracy"]), "true class in the best two"),
        ("speed", f"{report.faces_per_second:,.0f}", "faces per second, model alone"),
    ]
    shown = "".join(
        f'<div class="card"><p class="name">{escape(name)}</p><p class="value">{value}</p>'
        f'<p class="under">{escape(below)}</p></div>'
        for name, value, below in cards
    )
    return f'{big}<div class="cards">{shown}</div>'


def _calibration_text(scores: Scores) -> str:
    gap = scores.summary["mean_confidence"] - scores.summary["accuracy"]
    way = "over-confident" if gap > 0 else "under-confident"
    return (
        f"Where a bar ends below the dashed line, the model is surer than it is right. On average "
        f"it is {way} by {100 * abs(gap):.1f} points; the expected calibration error is "
        f"{percent(scores.summary['ece'])}."
    )


def _risk_text(scores: Scores) -> str:
    all_, most, half = (plots.risk_at(scores.risk, c) for c in (1.0, 0.8, 0.5))
    return (
        f"If only the surest 80 % are answered, the error falls from {percent(all_, 1)} to "
        f"{percent(most, 1)}; at 50 % it is {percent(half, 1)}. The area under the curve (AURC) is "
        f"{scores.risk.area:.4f}."
    )


def _class_table(scores: Scores) -> str:
    rows = [
        [
            f'<i class="chip" style="background:{colour(c)}"></i>{c.value}',
            *(percent(v, 1) for v in (s.precision, s.recall, s.f1)),
            figure(s.roc_auc),
            figure(s.average_precision),
            f"{s.support:,}",
        ]
        for c, s in scores.per_class.items()
    ]
    sums = scores.summary
    for name in ("macro", "weighted"):
        cells = (percent(sums[f"{name}_{k}"], 1) for k in ("precision", "recall", "f1"))
        areas = ["", ""]
        if name == "macro":
            areas = [figure(sums["macro_roc_auc"]), figure(sums["macro_average_precision"])]
        rows.append([f"<em>{name} mean</em>", *cells, *areas, f"{scores.n:,}"])
    return html_table(["class", "precision", "recall", "F1", "ROC area", "AP", "support"], rows)


def _figures(report: Report) -> str:
    header = ["figure", f"all {report.n:,}", "95 % interval"]
    twin_free = report.twin_free
    if twin_free is not None:
        header += [f"without twins ({twin_free.n:,})", "95 % interval"]
    rows = []
    for key, name, in_percent in SUMMARY_ROWS:
        row = [escape(name), *summary_cells(report.scores, key, in_percent)]
        if twin_free is not None:
            row += summary_cells(twin_free, key, in_percent)
        rows.append(row)
    return html_table(header, rows)


def _provenance(report: Report) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in provenance(report)
    )
    return f"<dl>{rows}</dl>"


def _gallery(mistakes: Sequence[Mistake]) -> str:
    if not mistakes:
        return "<p>There are none.</p>"
    cards = []
    for m in mistakes:
        alt = f"face labelled {m.true.value}, predicted {m.predicted.value}"
        cards.append(
            f'<figure title="{escape(m.id, quote=True)}"><div class="face"><img alt="{alt}" '
            f'src="data:image/png;base64,{png_base64(m.image)}">'
            f'<span class="sure">{100 * m.confidence:.0f} %</span></div><figcaption>'
            f'<span><i class="chip" style="background:{colour(m.predicted)}"></i>'
            f"<b>{m.predicted.value}</b></span>"
            f'<span class="said"><i class="chip" style="background:{colour(m.true)}"></i>'
            f"label {m.true.value}</span></figcaption></figure>"
        )
    return f'<div class="gallery">{"".join(cards)}</div>'
