"""Our figures beside the paper's: headlines, printed epochs and comparison tables.

``seeds`` is everywhere run id -> the records of its seeds or folds, as in the report's JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mien.reproduce.plan import DONE
from mien.reproduce.spec import Headline, PrintedEpochs, System

Seeds = Mapping[str, Sequence[Mapping[str, Any]]]

#: Where the columns of a comparison table stand; see :func:`measure`.
COLUMNS = {
    "train_loss": "last.train_loss",
    "train_accuracy": "last.train_accuracy",
    "val_loss": "last.val_loss",
    "val_accuracy": "last.val_accuracy",
    "test_loss": "test.nll",
    "test_accuracy": "test",
}


def mean(values: Sequence[float]) -> float | None:
    """Mean of at least one value."""
    return round(float(np.mean(values)), 6) if values else None


def std(values: Sequence[float]) -> float | None:
    """Standard deviation (n - 1) of at least two values."""
    return round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None


def measure(seed: Mapping[str, Any], figure: str) -> float | None:
    """One figure of one finished seed; None where it has none.

    Args:
        figure: "last.val_loss" or "best.val_accuracy" (a column of the curves), "test" (the
            accuracy of the score "test") or "test.macro_f1".
    """
    head, _, rest = figure.partition(".")
    if head in ("last", "best"):
        epoch = seed["curves"][-1]["epoch"] if head == "last" and seed["curves"] else None
        epoch = seed["best_epoch"] if head == "best" else epoch
        rows = [row for row in seed["curves"] if row["epoch"] == epoch]
        value = rows[0].get(rest) if rows else None
    else:
        entry = next((e for e in seed["scores"] if e["key"] == head), None)
        value = None if entry is None else entry["scores"].get(rest or "accuracy")
    return None if value is None else float(value)


def measured(seeds: Sequence[Mapping[str, Any]], figure: str) -> list[float]:
    """The figure of every finished seed or fold."""
    values = [measure(seed, figure) for seed in seeds if seed["state"] == DONE]
    return [v for v in values if v is not None]


def headlines(
    system: System, seeds: Seeds, budget: str = "fast", *, dry: bool = False
) -> list[dict[str, Any]]:
    """The headline table: the paper's figure, ours, the difference, and whether it is met."""
    return [_headline(h, seeds.get(h.run, ()), budget, dry) for h in system.headlines]


def _headline(
    headline: Headline, seeds: Sequence[Mapping[str, Any]], budget: str, dry: bool
) -> dict[str, Any]:
    values = measured(seeds, headline.figure)
    ours = round(float(np.mean(values)), 6) if values else None
    met = None
    if ours is not None and headline.target is not None and not dry:
        met = round(ours, 4) >= headline.target  # to the hundredth of a point that is printed
    difference = None
    if ours is not None and headline.paper is not None:
        difference = round(ours - headline.paper, 6)
    return {
        "key": headline.key,
        "label": headline.label,
        "run": headline.run,
        "figure": headline.figure,
        "paper": headline.paper,
        "paper_text": headline.paper_text,
        "target": headline.target,
        "ours": ours,
        "ours_text": _text(values, seeds),
        "difference": difference,
        "met": met,
        "remark": remark(headline, budget),
    }


def remark(headline: Headline, budget: str = "fast") -> str:
    """What is said of the figure under that budget."""
    said = (headline.remark, headline.fast_remark if budget == "fast" else "")
    return " ".join(words for words in said if words)


def _text(values: Sequence[float], seeds: Sequence[Mapping[str, Any]]) -> str:
    if not values:
        return "not run"
    folds = any(s.get("fold") is not None for s in seeds)
    unit = "fold" if folds else "seed"
    many = f"{len(values)} {unit}{'s' if len(values) > 1 else ''}"
    if len(values) < len(seeds):
        many += f" of {len(seeds)}"
    spread = std(values)
    around = f" ± {100 * spread:.2f}" if spread is not None else ""
    return f"{100 * float(np.mean(values)):.2f}{around} % ({many})"


def printed_epochs(printed: PrintedEpochs | None, seeds: Seeds) -> dict[str, Any]:
    """The paper's table of epochs with ours beside it: the mean of the finished seeds.

    Where our training is shorter, the paper's epoch ``e`` of ``E`` stands beside ours at the same
    fraction of the training; where we have an epoch of the same number, it is given too.
    """
    if printed is None:
        return {}
    curves = [
        {row["epoch"]: row for row in seed["curves"]}
        for seed in seeds.get(printed.run, ())
        if seed["state"] == DONE
    ]
    # Early stopping may end seeds at different epochs: an epoch counts if every seed has it.
    last = min((max(c) for c in curves if c), default=0)
    columns = list(dict.fromkeys(k for row in printed.rows.values() for k in row))
    rows: list[dict[str, Any]] = []
    for epoch, paper in printed.rows.items():
        mapped = max(1, round(epoch * last / printed.epochs)) if last else None
        rows.append(
            {
                "epoch": epoch,
                "paper": dict(paper),
                "ours_epoch": mapped,
                "ours": _at(curves, mapped, columns),
                "ours_same_epoch": _at(curves, epoch, columns) if epoch <= last else None,
            }
        )
    for row in rows:  # of several paper epochs beside one of ours, one is at the same place
        beside = [r["epoch"] for r in rows if r["ours_epoch"] == row["ours_epoch"]]
        exact = (row["ours_epoch"] or 0) * printed.epochs / max(last, 1)
        row["nearest"] = row["epoch"] == min(beside, key=lambda e: abs(e - exact))
    same = last == printed.epochs
    note = (
        ""
        if same or not last
        else (
            f"Our training has {last} epochs and the paper's {printed.epochs}: an epoch of the "
            "paper stands beside ours at the same fraction of the training, and where several do, "
            "the nearest has the difference."
        )
    )
    note = " ".join(said for said in (note, printed.note) if said)
    return {
        "run": printed.run,
        "source": printed.source,
        "columns": columns,
        "paper_epochs": printed.epochs,
        "our_epochs": last or None,
        "note": note,
        "rows": rows,
    }


def _at(
    curves: Sequence[Mapping[float, Mapping[str, float]]],
    epoch: int | None,
    columns: Sequence[str],
) -> dict[str, float | None]:
    found: dict[str, float | None] = dict.fromkeys(columns)
    if epoch is None:
        return found
    for column in columns:
        values = [c[epoch][column] for c in curves if epoch in c and column in c[epoch]]
        found[column] = round(float(np.mean(values)), 6) if values else None
    return found


def comparison(system: System, seeds: Seeds) -> list[dict[str, Any]]:
    """Model against model: the paper's figures and the means of ours."""
    rows = []
    printed = [system.run(run_id).printed for run_id in system.comparison]
    columns = [c for c in COLUMNS if any(c in p for p in printed)]
    if any(printed) and "test_accuracy" not in columns:
        columns.append("test_accuracy")
    for run_id in system.comparison:
        run = system.run(run_id)
        values = {c: measured(seeds.get(run_id, ()), COLUMNS[c]) for c in columns}
        rows.append(
            {
                "run": run_id,
                "label": run.label,
                "paper": {c: run.printed.get(c) for c in columns},
                "ours": {c: round(float(np.mean(v)), 6) if v else None for c, v in values.items()},
            }
        )
    return rows
