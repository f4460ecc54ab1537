"""Ablation tables: one change a row, the same seeds in every row, differences seed by seed."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.atomic import make_folder, write_text
from mien.data.dataset import FaceDataset
from mien.errors import RecipeError
from mien.report.charts import Difference, differences
from mien.report.markdown import markdown_table
from mien.report.svg import sized, standalone
from mien.train.fit import dry
from mien.train.folder import DONE, RECIPE, RUN, environment, read_json
from mien.train.jobs import Cluster, Job, Options, Say, result_of, run_jobs
from mien.train.recipe import Recipe, override
from mien.train.recipes import get_recipe

#: 97.5 % points of Student's t for 1, 2, … degrees of freedom.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
BASE = "base"


@dataclass(frozen=True)
class Table:
    """A table: the base recipe, what every row sets, the seeds, and the rows' own settings."""

    name: str
    recipe: str
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: dict[str, tuple[str, ...]]

    def recipe_of(self, row: str) -> Recipe:
        """The row's recipe, called ``TABLE-ROW``."""
        made = override(get_recipe(self.recipe), [*self.settings, *self.rows[row]])
        return dataclasses.replace(made, name=f"{self.name}-{row}")

    def row_of(self, job: Job) -> str:
        """The row that one of :meth:`jobs` trains."""
        return job.recipe.name.removeprefix(f"{self.name}-")

    def jobs(self, runs: Path) -> list[Job]:
        """Seed by seed through all rows, so that an early end leaves whole comparisons."""
        return [
            Job(self.recipe_of(row), seed, runs / f"{self.name}-{row}-seed{seed}")
            for seed in self.seeds
            for row in self.rows
        ]


def read_table(path: Path) -> Table:
    """Read a TOML file: ``recipe``, ``set``, ``seeds`` and ``[rows]``, name = [settings].

    The row "base" (no settings) is added in front.

    Raises:
        RecipeError: missing, malformed, or a row that its recipe refuses.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = set(record) - {"recipe", "set", "seeds", "rows"}
        if unknown:
            raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
        rows = {BASE: (), **{str(k): tuple(map(str, v)) for k, v in record["rows"].items()}}
        table = Table(
            name=path.stem,
            recipe=str(record["recipe"]),
            settings=tuple(map(str, record.get("set", []))),
            seeds=tuple(int(s) for s in record["seeds"]),
            rows=rows,
        )
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.") from None
    except KeyError as error:
        raise RecipeError(f"{path} lacks the key {error.args[0]!r}.") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"{path} is no ablation table: {error}.") from None
    bad = [r for r in table.rows if not r or not all(c.isalnum() or c in "-_" for c in r)]
    if bad or not table.seeds:
        raise RecipeError(
            f"{path}: rows are named in letters, digits, - and _, and seeds are not empty."
        )
    for row in table.rows:
        table.recipe_of(row)
    return table


def summarise(table: Table, runs: Path, *, sha256: str, dry_run: bool = False) -> dict[str, Any]:
    """The table so far: mean, standard deviation and paired difference of every row.

    Args:
        sha256: of the dataset that the runs were trained on.
        dry_run: the runs are dry ones.

    Raises:
        RecipeError: a row's folder holds a run with another recipe, seed or dataset.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {row: {} for row in table.rows}
    for job in table.jobs(runs):
        if job.done:
            _check_run(job, sha256, dry_run)
            found[table.row_of(job)][job.seed] = result_of(job.folder)
    scores = {
        row: {seed: float(run["last_val_accuracy"]) for seed, run in sorted(own.items())}
        for row, own in found.items()
    }
    noise = _residual(scores)
    rows = []
    for row, settings in table.rows.items():
        values, seconds = list(scores[row].values()), [r["seconds"] for r in found[row].values()]
        pairs = [v - scores[BASE][seed] for seed, v in scores[row].items() if seed in scores[BASE]]
        rows.append(
            {
                "row": row,
                "set": list(settings),
                "accuracies": {str(seed): value for seed, value in scores[row].items()},
                "mean": round(statistics.mean(values), 6) if values else None,
                "sd": round(statistics.stdev(values), 6) if len(values) > 1 else None,
                "difference": _paired(pairs, noise) if row != BASE and pairs else None,
                "minutes": round(statistics.mean(seconds) / 60, 2) if seconds else None,
            }
        )
    return {
        "table": table.name,
        "recipe": table.recipe,
        "set": list(table.settings),
        "seeds": list(table.seeds),
        "figure": "accuracy on the validation split after the last epoch",
        "residual": noise,
        "rows": rows,
        **environment(),
    }


def _check_run(job: Job, sha256: str, dry_run: bool) -> None:
    """A name proves nothing: the table, its settings or the data may be others by now."""
    wanted = dry(job.recipe) if dry_run else job.recipe
    record = read_json(job.folder / RUN)
    same = {
        "recipe": not Recipe.from_dict(read_json(job.folder / RECIPE)).differences(wanted),
        "seed": record.get("seed") == job.seed,
        "dataset": record["data"]["sha256"] == sha256,
    }
    other = [key for key, equal in same.items() if not equal]
    if other:
        raise RecipeError(
            f"{job.folder} holds a run with another {' and '.join(other)} than the table's; move "
            "it away or use another --out."
        )


def _residual(scores: dict[str, dict[int, float]]) -> dict[str, Any] | None:
    """What row and seed leave unexplained: the residual of a two-way analysis of variance.

    All rows share one spread, which is far better known than that of two or three differences.

    Returns:
        ``sd``, of one run, and its degrees of freedom ``df``; None where fewer than two seeds
        were trained in every row.
    """
    seeds = sorted(set.intersection(*(set(runs) for runs in scores.values())))
    if len(seeds) < 2 or len(scores) < 2:
        return None
    table = np.array([[runs[seed] for seed in seeds] for runs in scores.values()])
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    df = (table.shape[0] - 1) * (table.shape[1] - 1)
    return {"sd": float(np.sqrt((left**2).sum() / df)), "df": df}


def _paired(pairs: Sequence[float], noise: dict[str, Any] | None) -> dict[str, Any]:
    """Mean of the differences to the base at the same seed, and its 95 % t-interval."""
    mean = statistics.mean(pairs)
    found = {"mean": round(mean, 6), "low": None, "high": None, "n": len(pairs)}
    if noise is not None:
        half = _t975(noise["df"]) * noise["sd"] * math.sqrt(2 / len(pairs))
        found |= {"low": round(mean - half, 6), "high": round(mean + half, 6)}
    return found


def _t975(df: int) -> float:
    """97.5 % point of Student's t, past the table by Abramowitz and Stegun 26.7.5."""
    if df <= len(T_975):
        return T_975[df - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2) + third


def to_markdown(record: dict[str, Any]) -> str:
    """The table as Markdown, in points of accuracy."""

    def points(value: float | None, form: str = ".2f") -> str:
        return "" if value is None else format(100 * value, form)

    rows = []
    for row in record["rows"]:
        found = row["difference"] or {"mean": None, "low": None}
        against = points(found["mean"], "+.2f")
        if found["low"] is not None:
            against += f" ({points(found['low'], '+.2f')} to {points(found['high'], '+.2f')})"
        settings = ", ".join(f"`{s}`" for s in row["set"]) or "none"
        minutes = "" if row["minutes"] is None else f"{row['minutes']:.1f}"
        figures = [str(len(row["accuracies"])), points(row["mean"]), points(row["sd"])]
        rows.append([row["row"], settings, *figures, against, minutes])
    header = ["row", "settings", "runs", "mean", "sd", "difference to base (95 %)", "minutes"]
    note = f"Recipe `{record['recipe']}`"
    note += f" with {', '.join(f'`{s}`' for s in record['set'])}" if record["set"] else ""
    if record["residual"] is not None:
        sd, df = record["residual"]["sd"], record["residual"]["df"]
        note += f"; intervals from the spread of one run in all rows, {points(sd)} points (df {df})"
    table = markdown_table(header, rows, left=2)
    return f"{table}\n\n{note}; {record['figure']}, in points.\n"


def image(record: dict[str, Any]) -> str:
    """The differences as an SVG file: a dot a seed, the mean and its 95 % interval."""
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
    return standalone(sized(differences(rows, title, "points of accuracy against the base")))


def write_pages(record: dict[str, Any], folder: Path, name: str) -> None:
    """The table as ``folder/NAME.md`` and its plot as ``folder/NAME.svg``."""
    write_text(folder / f"{name}.md", to_markdown(record))
    write_text(folder / f"{name}.svg", image(record))


def ablate(
    table: Table,
    dataset: FaceDataset,
    out: Path,
    *,
    device: str = "auto",
    dry_run: bool = False,
    quiet: bool = False,
    budget_s: float | None = None,
    cluster: Cluster | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Train what the table lacks, then write ``out/NAME.json``, ``.md`` and ``.svg``.

    Returns:
        the record, with ``complete``.
    """
    runs = make_folder(out / "runs")
    options = Options(device, dry_run, quiet, cluster=cluster)
    jobs = table.jobs(runs)
    outcomes = run_jobs(jobs, dataset, options, attempts=2, budget_s=budget_s, say=say)
    record = summarise(table, runs, sha256=dataset.sha256, dry_run=dry_run)
    write_text(out / f"{table.name}.json", json.dumps(record, indent=2) + "\n")
    write_pages(record, out, table.name)
    failed = {o.job.folder.name: o.why for o in outcomes if o.why}
    complete = all(o.state == DONE for o in outcomes)
    return {**record, "complete": complete, "failed": failed}
