"""In what a run's recipe differs from the paper's, and what its network weighs."""

from __future__ import annotations

from typing import Any

from mien._records import flat
from mien.reproduce.plan import NOT_COMPARED
from mien.reproduce.spec import RunSpec


def paper_recipe(run: RunSpec) -> Any | None:
    """The paper's own recipe, under the paper's own protocol; None where the run has none."""
    from mien.train.recipes import get_recipe

    chosen = run.recipes.get("paper", run.against)
    if chosen is None:
        return None
    return chosen() if callable(chosen) else get_recipe(chosen)


def deviations(run: RunSpec, theirs: Any | None, ours: Any | None) -> list[dict[str, Any]]:
    """The fields in which ``ours`` differs from the paper's recipe, then the run's readings."""
    found = []
    if theirs is not None and ours is not None:
        paper, mine = flat(theirs.to_dict()), flat(ours.to_dict())
        for key in dict.fromkeys([*paper, *mine]):
            if key in NOT_COMPARED or paper.get(key) == mine.get(key):
                continue
            found.append(
                {
                    "field": key,
                    "paper": paper.get(key),
                    "ours": mine.get(key),
                    "why": run.whys.get(key, ""),
                }
            )
    readings = [
        {"field": r.field, "paper": r.paper, "ours": r.ours, "why": r.why} for r in run.readings
    ]
    return found + readings


def network(run: RunSpec, recipe: Any | None, *, layers: bool = True) -> dict[str, Any]:
    """Parameters, multiply-adds and (if asked for) the layer table of the run's network."""
    empty: dict[str, Any] = {
        "parameters": {"total": None, "trainable": None, "paper_total": run.parameters},
        "multiply_adds": None,
        "layers": [],
    }
    if recipe is None:
        return empty
    from mien.models.registry import get_spec
    from mien.models.summary import layers_of, summarise

    summary = summarise(get_spec(recipe.model))
    return {
        "parameters": {
            "total": summary.parameters,
            "trainable": summary.trainable,
            "paper_total": run.parameters,
        },
        "multiply_adds": summary.multiply_adds,
        "layers": [
            {
                "name": row.name,
                "type": row.type,
                "settings": row.settings,
                "output_shape": list(row.output_shape),
                "parameters": row.parameters,
            }
            for row in (layers_of(recipe.model) if layers else ())
        ],
    }
