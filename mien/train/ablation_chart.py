"""An ablation as a picture: what every row's change did, seed by seed."""

from __future__ import annotations

from typing import Any

from mien.report.charts import Difference
from mien.report.charts import differences as drawn
from mien.report.svg import sized, standalone


def picture(record: dict[str, Any]) -> str:
    """:func:`differences` as a file of its own."""
    return standalone(sized(differences(record)))


def differences(record: dict[str, Any]) -> str:
    """Difference of every row to the base in points: a dot a seed, the mean and its 95 % interval.

    Args:
        record: of :func:`mien.train.ablation.summarise`.

    Returns:
        a complete ``<svg>``, of a few words where no row has a difference yet.
    """
    title = f"Ablation {record['table']}: difference to the base in points of accuracy"
    base = record["rows"][0]["accuracies"] if record["rows"] else {}
    rows = [
        Difference(
            row["row"],
            [100 * (v - base[seed]) for seed, v in row["accuracies"].items() if seed in base],
            100 * found["mean"],
            None if found["low"] is None else 100 * found["low"],
            None if found["high"] is None else 100 * found["high"],
            f"{row['row']}: {', '.join(row['set'])}",
        )
        for row in record["rows"]
        if (found := row["difference"])
    ]
    return drawn(rows, title, "points of accuracy against the base")
