"""Plots of a report's scores, as SVG strings; the drawing is in :mod:`mien.report.plots`."""

from __future__ import annotations

import math

import numpy as np

from mien.emotions import Emotion
from mien.evaluate.metrics import Curve, thin
from mien.evaluate.scores import Scores
from mien.report.plots import QUARTERS as _QUARTERS
from mien.report.plots import WIDTH as _WIDTH
from mien.report.plots import ClassCurve, draw_curves
from mien.report.svg import Axes, colour, diamond, document, line, num, percent_tick, rect, text


def per_class_bars(scores: Scores) -> str:
    """F1 of each class as a bar, with precision and recall as marks; best class first."""
    rows = [(c, s) for c, s in scores.per_class.items() if s.support]
    rows.sort(key=lambda row: -row[1].f1)
    step, top = 42.0, 26.0
    axes = Axes(box=(84, top, _WIDTH - 84 - 44, step * len(rows)))
    axes.grid(_QUARTERS, ())
    parts = axes.parts
    for i, (emotion, s) in enumerate(rows):
        y = top + i * step
        middle = y + step / 2
        parts.append(text(76, middle, emotion.value, "end"))
        parts.append(text(76, middle + 13, f"{s.support:,}", "muted end small"))
        width = axes.px(s.f1) - axes.left
        hint = f"{emotion.value}: F1 {s.f1:.3f}, precision {s.precision:.3f}, recall {s.recall:.3f}"
        parts.append(rect(axes.left, y + 9, width, step - 18, colour(emotion), hint, ' rx="4"'))
        low, high = sorted((axes.px(s.precision), axes.px(s.recall)))
        parts.append(line(low, middle, high, middle, "var(--ink)", ' stroke-opacity=".5"'))
        parts.append(diamond(axes.px(s.precision), middle))
        parts.append(_circle(axes.px(s.recall), middle))
        parts.append(text(_WIDTH - 4, middle + 4, f"{100 * s.f1:.1f}", "end strong"))
    parts += [
        rect(84, 7, 14, 8, "var(--muted)", extra=' rx="2"'),
        text(103, 15, "F1", "small"),
        diamond(136, 11),
        text(146, 15, "precision", "small"),
        _circle(214, 11),
        text(224, 15, "recall", "small"),
    ]
    return document(parts, _WIDTH, axes.bottom + 24, "F1, precision and recall of each class")


def _circle(x: float, y: float) -> str:
    return (
        f'<circle cx="{num(x)}" cy="{num(y)}" r="5" fill="var(--ink)" '
        'stroke="var(--surface)" stroke-width="1.5"/>'
    )


def reliability_diagram(scores: Scores) -> str:
    """Accuracy of each confidence bin against its confidence, with the number of samples below."""
    data = scores.reliability
    axes = Axes(box=(58, 14, 360, 230))
    axes.grid((), _QUARTERS)
    parts = axes.parts
    most = max(int(data.count.max()), 1)
    low_top, low_height = axes.bottom + 6, 42.0
    for b in range(len(data.count)):
        x0, x1 = axes.px(data.edges[b]) + 1, axes.px(data.edges[b + 1]) - 1
        n = int(data.count[b])
        if not n:
            continue
        acc, conf = float(data.accuracy[b]), float(data.confidence[b])
        hint = f"{n} samples: confidence {conf:.3f}, accuracy {acc:.3f}"
        parts.append(
            rect(x0, axes.py(acc), x1 - x0, axes.bottom - axes.py(acc), "var(--accent)", hint)
        )
        high, low = axes.py(max(acc, conf)), axes.py(min(acc, conf))
        parts.append(rect(x0, high, x1 - x0, low - high, "var(--gap)", hint, ' fill-opacity=".38"'))
        share = low_height * n / most
        parts.append(
            rect(x0, low_top + low_height - share, x1 - x0, share, "var(--muted)", f"{n} samples")
        )
    axes.curve((0, 1), (0, 1), "var(--ink)", extra=' stroke-dasharray="4 5"', width=1.3)
    keys = (
        ("var(--accent)", "1", "accuracy"),
        ("var(--gap)", ".38", "gap to confidence"),
        ("var(--muted)", "1", "samples"),
    )
    for i, (fill, opacity, name) in enumerate(keys):
        y = axes.top + 12 + 17 * i
        style = f' rx="2" fill-opacity="{opacity}"'
        parts.append(rect(axes.left + 12, y - 7, 14, 8, fill, extra=style))
        parts.append(text(axes.left + 32, y + 1, name, "small"))
    base = low_top + low_height
    for tick in _QUARTERS:
        parts.append(text(axes.px(tick), base + 15, percent_tick(tick), "muted mid small"))
    parts.append(text(axes.left + axes.width / 2, base + 33, "confidence", "muted mid"))
    ece = f"Reliability diagram, expected calibration error {data.ece:.4f}"
    return document(parts, _WIDTH, base + 40, ece)


def pr_curves(scores: Scores) -> str:
    """One-vs-rest precision–recall curves, a line a class, with the average precisions."""
    axes = Axes()
    axes.grid(_QUARTERS, _QUARTERS)
    axes.labels("recall", "precision")
    height = draw_curves(axes, one_vs_rest(scores, scores.pr))
    return document(
        axes.parts, _WIDTH, height, "Precision–recall curves, one class against the rest"
    )


def one_vs_rest(scores: Scores, curves: dict[Emotion, Curve | None]) -> list[ClassCurve]:
    """Name, points and area of each class that has a curve, thinned for drawing."""
    found = []
    for emotion in scores.classes:
        curve = curves[emotion]
        if curve is not None:
            t = thin(curve, 201)
            found.append((emotion.value, t.x.tolist(), t.y.tolist(), curve.area))
    return found


def risk_coverage(scores: Scores) -> str:
    """Error rate when only the surest share is answered, with the points at 50, 80 and 100 %."""
    curve = thin(scores.risk, 301)
    highest = float(np.max(curve.y))
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if highest <= 5 * s or s == 0.25)
    axes = Axes(y=(0.0, min(max(step * 2, highest * 1.12), 1.0)))
    ticks = [step * i for i in range(11) if step * i <= axes.y_limits[1] + 1e-9]
    axes.grid(_QUARTERS, ticks)
    axes.labels("share answered (surest first)", "error rate")
    xs, ys = curve.x.tolist(), curve.y.tolist()
    outline = " ".join(f"{num(axes.px(x))},{num(axes.py(y))}" for x, y in zip(xs, ys, strict=True))
    floor = f"{num(axes.px(xs[-1]))},{num(axes.bottom)} {num(axes.px(xs[0]))},{num(axes.bottom)}"
    axes.parts.append(
        f'<polygon points="{outline} {floor}" fill="var(--accent)" fill-opacity=".14"/>'
    )
    axes.curve(xs, ys, "var(--accent)", f"AURC {scores.risk.area:.4f}")
    for share in (0.5, 0.8, 1.0):
        risk = risk_at(scores.risk, share)
        axes.dot(share, risk, "var(--accent)", f"{share:.0%} answered: {risk:.1%} wrong", 4.5)
        anchor = "end strong" if share == 1.0 else "mid strong"
        shown = f"{100 * risk:.1f} %"
        axes.parts.append(text(axes.px(share), axes.py(risk) - 10, shown, anchor))
    return document(axes.parts, _WIDTH, axes.bottom + 40, "Risk against coverage")


def risk_at(curve: Curve, coverage: float) -> float:
    """The error rate among the surest ``coverage`` (0..1) of the samples."""
    index = max(math.ceil(coverage * len(curve.y) - 1e-9) - 1, 0)
    return float(curve.y[index])
