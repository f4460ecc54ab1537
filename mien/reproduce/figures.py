"""Our figures beside the paper's: headlines, printed epochs and comparison tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mien.reproduce.record import Compared, Mark, Printed, PrintedRow
from mien.reproduce.run import NOT_RUN, Run, mean, std
from mien.reproduce.spec import Headline, PrintedEpochs, System

#: Where the columns of a comparison table stand; see :meth:`mien.reproduce.run.Seed.measure`.
COLUMNS = {
    "train_loss": "last.train_loss",
    "train_accuracy": "last.train_accuracy",
    "val_loss": "last.val_loss",
    "val_accuracy": "last.val_accuracy",
    "test_loss": "test.nll",
    "test_accuracy": "test",
}


def mark(headline: Headline, run: Run, budget: str, *, dry: bool = False) -> Mark:
    """The paper's figure, ours (the mean over seeds or folds), and whether the mark is met."""
    values, paper = run.measured(headline.figure), headline.paper
    remarks = [headline.remark, headline.fast_remark if budget == "fast" else ""]
    found = Mark(
        **{**vars(headline), "remark": " ".join(r for r in remarks if r), "fast_remark": ""},
        ours=mean(values),
        ours_text=NOT_RUN,
    )
    if found.ours is None:
        return found
    unit = "fold" if any(s.fold is not None for s in run.seeds) else "seed"
    many = f"{len(values)} {unit}{'s' if len(values) > 1 else ''}"
    many += f" of {len(run.seeds)}" if len(values) < len(run.seeds) else ""
    spread = std(values)
    around = "" if spread is None else f" ± {100 * spread:.2f}"
    asked = None if dry else headline.target
    return replace(
        found,
        ours_text=f"{100 * float(np.mean(values)):.2f}{around} % ({many})",
        difference=None if paper is None else round(found.ours - paper, 6),
        # To the hundredth of a point that is printed.
        met=None if asked is None else round(found.ours, 4) >= asked,
    )


def set_beside(printed: PrintedEpochs, run: Run) -> Printed:
    """The paper's table of epochs with ours beside it: the mean of the finished seeds.

    Where our training is shorter, the paper's epoch ``e`` of ``E`` stands beside ours at the same
    fraction of the training; where we have an epoch of the same number, it is given too.
    """
    curves = [{int(row["epoch"]): row for row in seed.curves} for seed in run.done]
    # Early stopping may end seeds at different epochs: an epoch counts if every seed has it.
    last = min((max(c) for c in curves if c), default=0)
    columns = tuple(dict.fromkeys(k for row in printed.rows.values() for k in row))

    def ours(epoch: int | None) -> dict[str, float | None]:
        rows = [c[epoch] for c in curves if epoch in c]
        return {column: mean([row[column] for row in rows if column in row]) for column in columns}

    places = {e: max(1, round(e * last / printed.epochs)) if last else None for e in printed.rows}
    rows = []
    for epoch, paper in printed.rows.items():
        place = places[epoch]
        # Of several paper epochs beside one of ours, one is at the same place.
        exact = (place or 0) * printed.epochs / max(last, 1)
        beside = [e for e in places if places[e] == place]
        nearest = epoch == min(beside, key=lambda e: abs(e - exact))
        same = ours(epoch) if epoch <= last else None
        rows.append(PrintedRow(epoch, paper, place, ours(place), same, nearest))
    note = printed.note
    if last not in (0, printed.epochs):
        note = (
            f"Our training has {last} epochs and the paper's {printed.epochs}: an epoch of the "
            "paper stands beside ours at the same fraction of the training, and where several do, "
            f"the nearest has the difference. {note}"
        ).strip()
    named = (printed.source, printed.epochs, last or None, note)
    return Printed(printed.run, columns, tuple(rows), *named)


def comparison(system: System, runs: Mapping[str, Run]) -> tuple[Compared, ...]:
    """Model against model: the paper's figures and the means of ours."""
    specs = [system.run(run_id) for run_id in system.comparison]
    columns = [c for c in COLUMNS if any(c in spec.printed for spec in specs)]
    columns += ["test_accuracy"] if columns and "test_accuracy" not in columns else []
    return tuple(
        Compared(
            spec.id,
            spec.label,
            {c: spec.printed.get(c) for c in columns},
            {c: mean(runs[spec.id].measured(COLUMNS[c])) for c in columns},
        )
        for spec in specs
    )
