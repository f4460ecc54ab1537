"""Ahmed & Murshid 2024: the grid, its printed best cells, and a recipe for each. No torch.

Backbone × optimiser × batch size × data, and two budgets. The paper gives learning rates (Adam
.001, SGD .01), epochs (700 on all data, 500 on the balanced set) and ImageNet weights; it gives
no momentum, augmentation or schedule. Readings: momentum .9 (Nesterov), none, constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from mien.errors import RecipeError, nearest
from mien.train.recipe import AugmentConfig, OptimizerConfig, Recipe, ScheduleConfig

#: Registry names -> as the paper spells them: its seven, then the one whose ImageNet weights
#: install as a package.
TITLES = {
    "inceptionresnetv2": "InceptionResNetV2",
    "inceptionv3": "InceptionV3",
    "mobilenetv2": "MobileNetV2",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "xception": "Xception",
    "googlenet": "GoogLeNet",
    "efficientnet_lite0": "EfficientNet-Lite0",
}
BACKBONES = tuple(TITLES)
#: Optimiser -> learning rate.
RATES = {"adam": 1e-3, "sgd": 1e-2}
BATCHES = (16, 32, 64, 128)
#: The two forms of the data -> our protocol and the paper's epochs. On all data the paper's test
#: set, 7,178 images, is PublicTest and PrivateTest together.
DATA = {"all": ("fer2013", 700), "balanced": ("balanced", 500)}
FAST_EPOCHS = {"all": 8, "balanced": 12}
#: What a backbone of random weights needs on all data in the fast budget. After one cycle of
#: three epochs MobileNetV2 has 28.6 % of PublicTest by Adam up to .001, 42.0 % by SGD up to .05
#: (seed 0); up to .2 it was ahead of .05 after the first.
SCRATCH = OptimizerConfig("sgd", 0.1, weight_decay=5e-4)
SCRATCH_EPOCHS = 12


@dataclass(frozen=True)
class Best:
    """The paper's best cell of one backbone: tables 2 and 3, figures as fractions."""

    optimizer: str
    batch: int
    accuracy: float
    precision: float
    recall: float
    f1: float


#: (backbone, data) -> the paper's best cell. EfficientNet-Lite0 is not in the paper.
BEST: dict[tuple[str, str], Best] = {
    ("inceptionresnetv2", "all"): Best("adam", 128, 0.6547, 0.6589, 0.6425, 0.6505),
    ("inceptionv3", "all"): Best("adam", 128, 0.6174, 0.6133, 0.6100, 0.6116),
    ("mobilenetv2", "all"): Best("adam", 32, 0.5924, 0.5900, 0.5814, 0.5856),
    ("resnet50", "all"): Best("sgd", 16, 0.5458, 0.5439, 0.5467, 0.5452),
    ("resnet101", "all"): Best("sgd", 64, 0.6301, 0.6347, 0.6308, 0.6327),
    ("xception", "all"): Best("sgd", 16, 0.6024, 0.6132, 0.6114, 0.6122),
    ("googlenet", "all"): Best("sgd", 32, 0.5077, 0.5016, 0.5050, 0.5032),
    ("inceptionresnetv2", "balanced"): Best("sgd", 32, 0.6849, 0.6947, 0.6913, 0.6929),
    ("inceptionv3", "balanced"): Best("adam", 64, 0.6471, 0.6480, 0.6403, 0.6441),
    ("mobilenetv2", "balanced"): Best("adam", 64, 0.6489, 0.6312, 0.6302, 0.6307),
    ("resnet50", "balanced"): Best("adam", 64, 0.5879, 0.5913, 0.5962, 0.5937),
    ("resnet101", "balanced"): Best("sgd", 64, 0.6595, 0.6590, 0.6591, 0.6590),
    ("xception", "balanced"): Best("sgd", 128, 0.6321, 0.6374, 0.6356, 0.6364),
    ("googlenet", "balanced"): Best("sgd", 128, 0.5391, 0.5328, 0.5367, 0.5347),
}


def best_place(backbone: str, data: str) -> tuple[str, int]:
    """Optimiser and batch size of the paper's best cell; where it has none, those of most."""
    best = BEST.get((backbone, data))
    return (best.optimizer, best.batch) if best else ("adam", 64)


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
            paper's 700 or 500 at a constant rate without; SGD on all data from random weights
            goes up to ten times the paper's rate.
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
    scratch = fast and (optimizer, data, init) == ("sgd", "all", "random")
    if fast:
        epochs = SCRATCH_EPOCHS if scratch else FAST_EPOCHS[data]
    return Recipe(
        name=name or own,
        model=backbone,
        paper="Ahmed & Murshid 2024",
        protocol=protocol,
        batch_size=batch,
        epochs=epochs,
        optimizer=SCRATCH if scratch else OptimizerConfig(optimizer, RATES[optimizer]),
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
            name = f"ahmed_{backbone}" + ("" if data == "all" else f"_{data}")
            found[name] = ahmed_recipe(backbone, *best_place(backbone, data), data, name=name)
    return found
