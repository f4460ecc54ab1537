"""An evaluation as a document: the page and the Markdown of a :class:`Report`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mien.emotions import Label
from mien.evaluate import metrics
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
from mien.report import markdown, plots
from mien.report.charts import MOST_CLASSES
from mien.report.document import (
    Chart,
    Charts,
    Document,
    Face,
    Gallery,
    Pairs,
    Section,
    Table,
    Text,
    figure,
    percent,
)
from mien.report.html import write_files


def document(report: Report) -> Document:
    """The report as sections of text, tables and charts; images of the dataset in HTML only."""
    scores, matrix = report.scores, confusion_table(report.scores)
    trust = Section("confidence", "Can the confidence be believed?", [Charts(_trust(scores))])
    figures = Section("figures", "All figures", [figures_table(report)])
    many = len(scores.classes) > MOST_CLASSES
    classes = Section("classes", "Figures by class", [class_table(scores)], folded=many)
    if many:
        often = Section("confusion", "What is most often taken for what", [matrix])
        sections = [often, trust, _mistakes(report.mistakes), figures, classes]
    else:
        sections = [
            Section("confusion", "What is taken for what", [Charts(_answers(scores))]),
            classes,
            trust,
            Section("curves", "Each class against the rest", [Charts(_one_vs_rest(scores))]),
            _mistakes(report.mistakes),
            figures,
            Section("matrix", "Confusion matrix as a table", [matrix], folded=True),
        ]
    sections.append(Section("how", "How this was made", [Pairs(provenance(report))]))
    cards = _cards(report)
    return Document(title(report), _subtitle(report), sections, cards, _FOOTER, report.notes)


#: Rows of the table that stands for the matrix of many classes.
MOST_CONFUSIONS = 40


_FOOTER = (
    "Made by mien evaluate. These figures say how often the model agrees with the labels people "
    "gave to images of faces. An expression is not a feeling."
)


def _subtitle(report: Report) -> str:
    parts = [f"{report.n:,} faces"]
    if report.protocol:
        parts.append(f"protocol {report.protocol}")
    if report.tta != "none":
        parts.append(f"test-time augmentation {report.tta}")
    excluded = sum((report.data.get("excluded") or {}).values())
    if excluded:
        parts.append(f"{excluded:,} left out")
    return " · ".join([*parts, report.created[:10]])


def _cards(report: Report) -> list[tuple[str, str, str]]:
    summary, free = report.scores.summary, report.twin_free
    within = interval(report.scores, "accuracy")
    cards = [("accuracy", percent(report.accuracy), within and f"95 % interval {within}")]
    if free is not None:
        below = f"{interval(free, 'accuracy')} on {free.n:,}"
        cards.append(("without exact duplicates", percent(free.summary["accuracy"]), below))
    for name, key in (("macro F1", "macro_f1"), ("balanced accuracy", "balanced_accuracy")):
        cards.append((name, percent(summary[key]), interval(report.scores, key)))
    return [
        *cards,
        ("calibration error", percent(summary["ece"]), "15 bins, lower is better"),
        ("top-2 accuracy", percent(summary["top2_accuracy"]), "true class in the best two"),
        ("speed", f"{report.faces_per_second:,.0f}", "faces per second, model alone"),
    ]


def _answers(scores: Scores) -> list[Chart]:
    rows = [
        (c.value, s.precision, s.recall, s.f1, s.support)
        for c, s in scores.per_class.items()
        if s.support
    ]
    return [
        Chart(
            "",
            plots.confusion_matrix([c.value for c in scores.classes], scores.confusion),
            "Confusion matrix",
            "Each row sums to 100 %: of the faces with this label, the share given each answer, "
            "with the count below.",
        ),
        Chart(
            "",
            plots.class_bars(rows),
            "Classes, best first",
            "Bar: F1 in percent. The diamond is precision, the disc recall: a disc to the left "
            "means the class is often missed, a diamond to the left that it is often claimed "
            "wrongly.",
        ),
    ]


def _trust(scores: Scores) -> list[Chart]:
    gap = scores.summary["mean_confidence"] - scores.summary["accuracy"]
    way = "over-confident" if gap > 0 else "under-confident"
    marks = [(share, risk_at(scores.risk, share)) for share in (0.5, 0.8, 1.0)]
    thinned, r = metrics.thin(scores.risk, 301), scores.reliability
    bins = (list(v) for v in (r.edges, r.count, r.accuracy, r.confidence))
    half, most, all_ = (percent(risk, 1) for _, risk in marks)
    return [
        Chart(
            "",
            plots.reliability_diagram(*bins),
            "Calibration",
            "Where a bar ends below the dashed line, the model is surer than it is right. On "
            f"average it is {way} by {100 * abs(gap):.1f} points; the expected calibration error "
            f"is {percent(scores.summary['ece'])}.",
        ),
        Chart(
            "",
            plots.risk_coverage(list(thinned.x), list(thinned.y), marks),
            "If it may abstain",
            f"If only the surest 80 % are answered, the error falls from {all_} to {most}; at 50 % "
            f"it is {half}. The area under the curve (AURC) is {scores.risk.area:.4f}.",
        ),
    ]


def risk_at(curve: metrics.Curve, coverage: float) -> float:
    """The error rate among the surest ``coverage`` (0..1) of the samples."""
    index = max(math.ceil(coverage * len(curve.y) - 1e-9) - 1, 0)
    return float(curve.y[index])


def _one_vs_rest(scores: Scores) -> list[Chart]:
    def thinned(curves: Mapping[Label, metrics.Curve | None]) -> list[plots.ClassCurve]:
        found = [(c, metrics.thin(v, 201)) for c, v in curves.items() if v is not None]
        return [(c.value, list(v.x), list(v.y), v.area) for c, v in found]

    return [
        Chart("", plots.roc_plot(thinned(scores.roc)), "ROC", "Beside each name: its area."),
        Chart(
            "",
            plots.pr_plot(thinned(scores.pr)),
            "Precision and recall",
            "Beside each name: its average precision.",
        ),
    ]


def confusion_table(scores: Scores) -> Table:
    """The confusion matrix: a row a label, a column an answer; of many classes the most frequent
    confusions."""
    if len(scores.classes) > MOST_CLASSES:
        wrong = scores.confusion - np.diag(np.diag(scores.confusion))
        first = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
        pairs = [divmod(int(k), len(wrong)) for k in first if wrong.flat[k]]
        names = [c.value for c in scores.classes]
        confused = [[names[i], names[j], f"{wrong[i, j]:,}"] for i, j in pairs]
        return Table(["label", "predicted", "faces"], confused, left=2)
    counts = zip(scores.classes, scores.confusion.tolist(), strict=True)
    rows = [[c.value, *map(str, row)] for c, row in counts]
    return Table(["label \\ predicted", *(c.value for c in scores.classes)], rows, chips=True)


def class_table(scores: Scores) -> Table:
    """Every class's figures, and their means."""
    rows = [
        [
            c.value,
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
        rows.append([f"{name} mean", *cells, *areas, f"{scores.n:,}"])
    header = ["class", "precision", "recall", "F1", "ROC area", "AP", "support"]
    return Table(header, rows, chips=True)


def figures_table(report: Report) -> Table:
    """Every figure, on all samples and on those without an exact duplicate."""
    header = ["figure", f"all {report.n:,}", "95 % interval"]
    scores = [report.scores]
    if report.twin_free is not None:
        header += [f"without exact duplicates ({report.twin_free.n:,})", "95 % interval"]
        scores.append(report.twin_free)
    rows = [
        [name, *(cell for s in scores for cell in summary_cells(s, key, in_percent))]
        for key, name, in_percent in SUMMARY_ROWS
    ]
    return Table(header, rows)


def _mistakes(mistakes: Sequence[Mistake]) -> Section:
    heading = "The most confident mistakes"
    if not mistakes:
        return Section("mistakes", heading, [Text("There are none.")])
    faces = [
        Face(
            m.image,
            f"{m.id}: labelled {m.true.value}, predicted {m.predicted.value}",
            f"{m.predicted.value}\n{m.confidence:.0%}, label {m.true.value}",
        )
        for m in mistakes
    ]
    rows = [[m.id, m.true.value, m.predicted.value, percent(m.confidence, 1)] for m in mistakes]
    said = Text(
        "Below each face what the model says, how surely, and the label. Some are the model's "
        "errors and some are the label's. The images in the HTML page come from your copy of the "
        "dataset: mind its licence before you pass that page on."
    )
    table = Section(
        "mistakes-table",
        "The same as a table",
        [Table(["sample", "labelled", "predicted", "confidence"], rows, left=3)],
        folded=True,
    )
    shown = Section("mistakes-faces", "Faces", [Gallery([("", faces)])], html_only=True)
    return Section("mistakes", heading, [said], [shown, table])


def to_markdown(report: Report) -> str:
    """The report as Markdown: classes, mistakes, every figure, confusion matrix."""
    return markdown.to_markdown(document(report))


def write_report(report: Report, folder: str | Path) -> dict[str, Path]:
    """Write ``report.json``, ``report.md`` and ``report.html`` into ``folder``, made if missing.

    The HTML page shows images of the dataset (the most confident mistakes): mind its licence
    before you pass the page on. The other two hold no image.

    Returns:
        format -> path.

    Raises:
        OutputError: the folder cannot be made or a file cannot be written.
    """
    return write_files(folder, "report", report.to_json(), document(report))
