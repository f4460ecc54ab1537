"""Grad-CAM for a checkpoint: where in the last feature maps an answer comes from. Needs torch.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017: the feature maps of the last convolutional layer, weighted by the mean
gradient of the class's logit over each map, summed and rectified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.errors import ModelError
from mien.preprocess import normalize

if TYPE_CHECKING:
    from mien.train.checkpoint import TorchClassifier

#: The smallest feature map to look at: below it, a map says next to nothing about places.
MIN_SIDE = 6


def gradcam_maps(
    classifier: TorchClassifier,
    faces: NDArray[np.uint8],
    *,
    layer: str | None = None,
    batch_size: int = 64,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grad-CAM of every class.

    Args:
        classifier: a loaded checkpoint.
        faces: uint8 (N, S, S), grey, 0..255, S the network's input.
        layer: name of a module as in ``model.named_modules()``; None takes the last one whose
            output is at least 6×6.
        batch_size: faces per pass.

    Returns:
        the probabilities, float32 (N, K), and the maps, float32 (N, K, S, S), in units of the
        logit, 0 and above: the rectified map, enlarged linearly.

    Raises:
        ModelError: no such layer, or one without feature maps.
    """
    model = classifier.model
    name = layer or last_layer(classifier)
    modules = dict(model.named_modules())
    if name not in modules:
        raise ModelError(f"The model has no layer {name!r}; see its named_modules().")
    parts = [
        _maps(classifier, modules[name], name, faces[k : k + batch_size])
        for k in range(0, len(faces), batch_size)
    ]
    return classifier.predict_proba(faces), np.concatenate(parts)


def last_layer(classifier: TorchClassifier) -> str:
    """The last module, in order of execution, whose output is a stack of maps of 6×6 or more.

    Where the network has none so large, the last one with the largest maps.
    """
    seen: list[tuple[str, int]] = []
    names = {module: name for name, module in classifier.model.named_modules() if name}

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen.append((names[module], min(output.shape[2:])))

    hooks = [module.register_forward_hook(record) for module in names]
    size = classifier.info.input_size
    try:
        classifier.logits(np.zeros((1, size, size), np.uint8))
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ModelError(f"Model {classifier.info.name!r} has no layer with feature maps.")
    enough = min(MIN_SIDE, max(side for _, side in seen))
    return [name for name, side in seen if side >= enough][-1]


def _maps(
    classifier: TorchClassifier, module: nn.Module, name: str, faces: NDArray[np.uint8]
) -> NDArray[np.float32]:
    kept: list[Tensor] = []
    hook = module.register_forward_hook(lambda m, i, output: kept.append(output))
    info, device = classifier.info, classifier.device
    try:
        with torch.enable_grad():
            x = torch.from_numpy(normalize(faces, info)).to(device).requires_grad_(True)
            logits = classifier.model(x).float()
    finally:
        hook.remove()
    if not kept or kept[-1].ndim != 4:
        raise ModelError(f"Layer {name!r} gives no feature maps; name a convolutional one.")
    features = kept[-1]
    maps = []
    for k in range(logits.shape[1]):
        # Each face's logit depends on its own features alone, so the sum's gradient is each one's.
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), features, retain_graph=True)
        weighted = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True)
        maps.append(torch.relu(weighted).detach())
    size = info.input_size
    stacked = nn.functional.interpolate(
        torch.cat(maps, dim=1).float(), size=(size, size), mode="bilinear", align_corners=False
    )
    return np.asarray(stacked.cpu().numpy(), np.float32)
