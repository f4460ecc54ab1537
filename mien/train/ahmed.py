"""The recipes of Ahmed & Murshid 2024: one for every cell of their grid.

Backbone × optimiser × batch size × data, and two budgets. The paper gives learning rates (Adam
.001, SGD .01), epochs (700 on all data, 500 on the balanced set) and ImageNet weights; it gives
no momentum, augmentation or schedule. Readings: momentum .9 (Nesterov), none, constant.
"""

from __future__ import annotations

from mien.data.augmentation import AugmentConfig
from mien.errors import RecipeError, nearest
from mien.train.ahmed_table import BACKBONES, DATA, FAST_EPOCHS, RATES, best_place
from mien.train.recipe import OptimizerConfig, Recipe, ScheduleConfig


def cell_name(backbone: str, optimizer: str, batch: int, data: str) -> str:
    """ "ahmed_resnet50_adam64_balanced": the name of a cell's recipe and run folder."""
    return f"ahmed_{backbone}_{optimizer}{batch}_{data}"


def ahmed_recipe(
    backbone: str,
    optimizer: str = "adam",
    batch: int = 64,
    data: str = "all",
    init: str = "imagenet",
    *,
    fast: bool = False,
    name: str = "",
) -> Recipe:
    """The recipe of one cell.

    Args:
        backbone: one of :data:`BACKBONES`. optimizer: "adam" or "sgd". batch: 1 or more.
        data: "all" or "balanced".
        init: "imagenet", "random" or a file of weights.
        fast: a few epochs of one learning-rate cycle with light augmentation, instead of the
            paper's 700 or 500 at a constant rate without.
        name: instead of the cell's own, which adds "_random" or "_file" where the weights are not
            ImageNet's, and "_fast".

    Raises:
        RecipeError: a part is unknown.
    """
    for what, value, known in (
        ("backbone", backbone, BACKBONES),
        ("optimizer", optimizer, tuple(RATES)),
        ("data", data, tuple(DATA)),
    ):
        if value not in known:
            raise RecipeError(f"Unknown {what} {value!r}{nearest(value, known)}")
    protocol, epochs = DATA[data]
    start = "" if init == "imagenet" else "_random" if init == "random" else "_file"
    own = cell_name(backbone, optimizer, batch, data) + start + ("_fast" if fast else "")
    return Recipe(
        name=name or own,
        model=backbone,
        paper="Ahmed & Murshid 2024",
        protocol=protocol,
        batch_size=batch,
        epochs=FAST_EPOCHS[data] if fast else epochs,
        optimizer=OptimizerConfig(optimizer, RATES[optimizer]),
        schedule=ScheduleConfig("onecycle", warmup=0.2) if fast else ScheduleConfig(),
        augment=AugmentConfig(flip=0.5, rotation=10, shift=0.05) if fast else AugmentConfig(),
        init=init,
    )


def best_recipes() -> dict[str, Recipe]:
    """ "ahmed_resnet50" and "ahmed_resnet50_balanced": the paper's best cell of every backbone.

    EfficientNet-Lite0 has the cell that is the best of most: Adam, 64.
    """
    found = {}
    for data in DATA:
        for backbone in BACKBONES:
            optimizer, batch = best_place(backbone, data)
            name = f"ahmed_{backbone}" + ("" if data == "all" else f"_{data}")
            found[name] = ahmed_recipe(backbone, optimizer, batch, data, name=name)
    return found
