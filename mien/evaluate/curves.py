"""The one reader of ``curves.csv``, in which a training run writes a row for each epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from mien.errors import DataError


def read_curves(path: str | Path) -> list[dict[str, float]]:
    """The rows of a run's ``curves.csv``, in order: "epoch" (whole) and the columns it has.

    Cells left blank are left out of their row. :func:`mien.report.plots.training_curves` and
    :func:`mien.report.charts.curves` draw these rows.

    Args:
        path: the file; where it does not exist there are no rows.

    Raises:
        DataError: the file cannot be read or is damaged.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        return [{**row, "epoch": int(row["epoch"])} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged; train the run again.") from None
