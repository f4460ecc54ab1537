"""A robustness report beside another model's: corruption errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import DataError
from mien.evaluate.scores import plain
from mien.robustness.report import RobustnessReport, ratio


def read_report(path: str | Path) -> dict[str, Any]:
    """A ``robustness.json`` written earlier, as a dictionary.

    Raises:
        DataError: the file is missing, damaged or no robustness report.
    """
    try:
        record: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {"fer2013c", "run", "clean", "corruptions"} <= record.keys():
            raise ValueError("it has no FER2013-C figures")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is no robustness.json of `mien robustness --out`: {error}."
        ) from None
    return record


def check_baseline(
    run: Mapping[str, Any], grid: Mapping[str, Iterable[Any]], baseline: Mapping[str, Any]
) -> None:
    """Raise DataError unless a run on ``grid`` can be set against the baseline.

    Args:
        run: :func:`mien.robustness.runner.identity` of what is, or is to be, scored.
        grid: corruption -> its severities.
    """
    # The labels too: a file from before they were recorded has FER2013's own.
    ours, theirs = ({"protocol": "fer2013", **_known(r)} for r in (run, baseline["run"]))
    for key in ("version", "n", "ids_sha256", "split", "protocol", "data_sha256", "tta"):
        if ours.get(key) != theirs.get(key):
            raise DataError(
                f"The baseline has another {key.replace('_', ' ')} ({theirs.get(key)!r} and not "
                f"{ours.get(key)!r}); score both on the same samples, in the same way."
            )
    scored = baseline["corruptions"]
    for name, severities in grid.items():
        if name not in scored or set(scored[name]["severities"]) != set(map(str, severities)):
            raise DataError(f"The baseline lacks {name} at these severities; score its whole grid.")


def _known(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if value not in (None, "")}


def corruption_error(report: RobustnessReport, baseline: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and relative corruption error against another model (Hendrycks and Dietterich 2019).

    A corruption's error is the sum of the error rates over its severities, divided by the
    baseline's; the relative one first subtracts each model's clean error. Below 1 is better than
    the baseline.

    Args:
        report: the model.
        baseline: :func:`read_report` of the other's, on the same samples and grid.

    Returns:
        "baseline", "mce", "relative_mce" and "by_corruption".

    Raises:
        DataError: the two were not scored on the same samples, version and grid.
    """
    mine = json.loads(report.to_json())
    theirs = baseline["corruptions"]
    grid = {name: list(record["severities"]) for name, record in mine["corruptions"].items()}
    check_baseline(mine["run"], grid, baseline)
    errors = {
        name: _error_ratio(record, theirs[name], mine, baseline)
        for name, record in mine["corruptions"].items()
    }
    return {
        "baseline": str(baseline["run"].get("model", {}).get("name", "baseline")),
        "mce": plain(float(np.mean([e[0] for e in errors.values()]))),
        "relative_mce": plain(float(np.mean([e[1] for e in errors.values()]))),
        "by_corruption": {name: plain(e[0]) for name, e in errors.items()},
    }


def _error_ratio(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], a: Mapping[str, Any], b: Mapping[str, Any]
) -> tuple[float, float]:
    def errors(record: Mapping[str, Any], clean: float) -> tuple[float, float]:
        rates = [1 - s["accuracy"] for s in record["severities"].values()]
        return sum(rates), sum(r - (1 - clean) for r in rates)

    own = errors(mine, a["clean"]["accuracy"])
    other = errors(theirs, b["clean"]["accuracy"])
    return ratio(own[0], other[0]), ratio(own[1], other[1])
