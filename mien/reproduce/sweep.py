"""Ahmed & Murshid's grid: its cells, what a budget plans of them, and what ``--only`` leaves.

A cell is one backbone trained one way. Every cell is an ordinary run folder, found by its recipe,
so that a sweep, ``mien reproduce ahmed2024`` and ``mien train`` share what they have trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mien.errors import RecipeError
from mien.reproduce.spec import HOUSE_SCORES, RunSpec, ScoreSpec, System
from mien.train.ahmed_table import BACKBONES, BATCHES, RATES, TITLES, best_place

OPTIMIZERS = tuple(RATES)

DATA_TITLES = {"all": "All data", "balanced": "Balanced data"}
KEYS = ("backbone", "optimizer", "batch", "data")

#: On all data the paper's test set is PublicTest and PrivateTest together, 7,178 images.
SCORES_ALL = (
    ScoreSpec(
        "paper",
        "last",
        ("val", "test"),
        "The paper's test set, scored at the last epoch: nothing is chosen on it.",
        split="PublicTest + PrivateTest",
    ),
    *HOUSE_SCORES,
)
SCORES_BALANCED = (
    ScoreSpec(
        "paper",
        "last",
        ("test",),
        "A random fifth of the balanced set, at the last epoch: there is no validation split.",
        split="balanced test",
        twin_free=True,
    ),
)


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Attributes:
        backbone: registry name; optimizer: "adam" or "sgd"; batch: batch size; data: "all" or
            "balanced"; init: "imagenet", "random" or a file of weights.
    """

    backbone: str
    optimizer: str
    batch: int
    data: str
    init: str = "imagenet"

    def recipe(self, *, fast: bool) -> Any:
        """The cell's :class:`mien.train.recipe.Recipe`."""
        from mien.train.ahmed import ahmed_recipe

        return ahmed_recipe(*self.place, self.init, fast=fast)

    @property
    def place(self) -> tuple[str, str, int, str]:
        """Backbone, optimiser, batch, data: where it stands in the paper's grid."""
        return self.backbone, self.optimizer, self.batch, self.data

    @property
    def start(self) -> str:
        """ "ImageNet weights", "random weights" or "weights of a file"."""
        return {"imagenet": "ImageNet weights", "random": "random weights"}.get(
            self.init, "weights of a file"
        )

    @property
    def id(self) -> str:
        """ "resnet50_adam64_balanced", with "_random" or "_file" as in the recipe's name."""
        start = {"imagenet": "", "random": "_random"}.get(self.init, "_file")
        return f"{self.backbone}_{self.optimizer}{self.batch}_{self.data}{start}"


def planned(budget: str, init: str | None = None) -> tuple[Cell, ...]:
    """The cells that a budget trains.

    "paper": the whole grid from ImageNet weights. "fast": what two processor cores measure in
    about an hour: Adam at batch 64, every backbone on the balanced set and MobileNetV2 on all data
    from random weights, and EfficientNet-Lite0, whose ImageNet weights install as a package, on
    both from those.

    Args:
        init: what every cell starts from instead.
    """
    if budget == "paper":
        cells = grid(init or "imagenet")
    else:
        cells = (
            *(Cell(backbone, "adam", 64, "balanced", "random") for backbone in BACKBONES),
            Cell("efficientnet_lite0", "adam", 64, "balanced"),
            Cell("mobilenetv2", "adam", 64, "all", "random"),
            Cell("efficientnet_lite0", "adam", 64, "all"),
        )
    if init:
        cells = tuple(dict.fromkeys(replace(cell, init=init) for cell in cells))
    return cells


def best(init: str = "imagenet") -> tuple[Cell, ...]:
    """The cell of every row of the paper's two tables; Adam at batch 64 for EfficientNet-Lite0."""
    found = []
    for data, backbone in itertools.product(DATA_TITLES, BACKBONES):
        optimizer, batch = best_place(backbone, data)
        found.append(Cell(backbone, optimizer, batch, data, init))
    return tuple(found)


def grid(init: str = "imagenet") -> tuple[Cell, ...]:
    """All cells: 8 backbones × 2 optimisers × 4 batch sizes × 2 forms of the data."""
    made = itertools.product(DATA_TITLES, BACKBONES, OPTIMIZERS, BATCHES)
    return tuple(Cell(b, o, n, d, init) for d, b, o, n in made)


def choose(cells: Sequence[Cell], only: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that one of ``only`` names: "backbone=resnet50,optimizer=adam".

    Raises:
        RecipeError: a key or value is unknown, or no cell is left.
    """
    if not only:
        return tuple(cells)
    filters = [_filter(text) for text in only]
    left = tuple(
        cell
        for cell in cells
        if any(all(str(getattr(cell, k)) == v for k, v in f.items()) for f in filters)
    )
    if not left:
        raise RecipeError(
            f"--only {' --only '.join(only)} leaves no cell of this budget's plan; add --grid to "
            "choose from the whole grid."
        )
    return left


def _filter(text: str) -> dict[str, str]:
    from mien.errors import nearest

    known = {
        "backbone": BACKBONES,
        "optimizer": OPTIMIZERS,
        "batch": tuple(map(str, BATCHES)),
        "data": tuple(DATA_TITLES),
        "init": None,
    }
    found = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise RecipeError(f"--only {text}: write key=value[,key=value].")
        if key not in known:
            raise RecipeError(f"--only {text}: no key {key!r}{nearest(key, known)}")
        values = known[key]
        if values is not None and value not in values:
            raise RecipeError(f"--only {text}: no {key} {value!r}{nearest(value, values)}")
        found[key] = value
    return found


def run_of(cell: Cell, budget: str) -> RunSpec:
    """The cell as a run of a reproduction."""
    everything = cell.data == "all"
    return RunSpec(
        id=cell.id,
        label=f"{TITLES[cell.backbone]}, {cell.optimizer} {cell.batch}, "
        f"{DATA_TITLES[cell.data].lower()}, {cell.start}",
        recipes={budget: partial(cell.recipe, fast=budget == "fast")},
        protocol="fer2013" if everything else "balanced",
        scores=SCORES_ALL if everything else SCORES_BALANCED,
    )


def system_of(cells: Sequence[Cell], budget: str) -> System:
    """The cells as a system, so that its plan finds what is trained already."""
    return System(
        name="ahmed2024",
        title="Facial expression recognition with seven ImageNet backbones",
        citation="Ahmed & Murshid 2024",
        runs=tuple(run_of(cell, budget) for cell in cells),
        headlines=(),
    )
