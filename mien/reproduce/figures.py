"""Our figures beside the paper's: headlines, printed epochs and comparison tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mien.reproduce.record import Compared, Mark, Printed, PrintedRow
from mien.reproduce.run import NOT_RUN, Run, mean, std
from mien.reproduce.spec import Headline, PrintedEpochs, System

#: Where the columns of a comparison table stand; see :meth:`mien.reproduce.record.Seed.measure`.
COLUMNS = {
    "train_loss": "last.train_loss",
    "train_accuracy": "last.train_accuracy",
    "val_loss": "last.val_loss",
    "val_accuracy": "last.val_accuracy",
    "test_loss": "test.nll",
    "test_accuracy": "test",
}


def remark(headline: Headline, budget: str = "fast") -> str:
    """What is said of the figure under that budget."""
    said = (headline.remark, headline.fast_remark if budget == "fast" else "")
    return " ".join(words for words in said if words)


def mark(headline: Headline, run: Run, budget: str, *, dry: bool = False) -> Mark:
    """The paper's figure, ours (the mean over seeds or folds), and whether the mark is met."""
    values = run.measured(headline.figure)
    ours, paper = mean(values), headline.paper
    met = None
    if ours is not None and headline.target is not None and not dry:
        met = round(ours, 4) >= headline.target  # to the hundredth of a point that is printed
    return Mark(
        key=headline.key,
        label=headline.label,
        run=headline.run,
        paper=paper,
        target=headline.target,
        ours=ours,
        figure=headline.figure,
        paper_text=headline.paper_text,
        ours_text=_text(values, run),
        difference=None if ours is None or paper is None else round(ours - paper, 6),
        met=met,
        remark=remark(headline, budget),
    )


def _text(values: Sequence[float], run: Run) -> str:
    """ "64.00 ± 0.30 % (3 seeds)"."""
    if not values:
        return NOT_RUN
    unit = "fold" if any(s.fold is not None for s in run.seeds) else "seed"
    many = f"{len(values)} {unit}{'s' if len(values) > 1 else ''}"
    if len(values) < len(run.seeds):
        many += f" of {len(run.seeds)}"
    spread = std(values)
    around = f" ± {100 * spread:.2f}" if spread is not None else ""
    return f"{100 * float(np.mean(values)):.2f}{around} % ({many})"


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
    return Printed(
        printed.run, columns, tuple(rows), printed.source, printed.epochs, last or None, note
    )


def comparison(system: System, runs: Mapping[str, Run]) -> tuple[Compared, ...]:
    """Model against model: the paper's figures and the means of ours."""
    specs = [system.run(run_id) for run_id in system.comparison]
    columns = [c for c in COLUMNS if any(c in spec.printed for spec in specs)]
    if columns and "test_accuracy" not in columns:
        columns.append("test_accuracy")
    return tuple(
        Compared(
            spec.id,
            spec.label,
            {c: spec.printed.get(c) for c in columns},
            {c: mean(runs[spec.id].measured(COLUMNS[c])) for c in columns},
        )
        for spec in specs
    )
