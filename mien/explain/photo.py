"""Explanations of the faces of a photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.detect import Detection, Detector
from mien.emotions import Label
from mien.errors import ModelError
from mien.explain.occlusion import PATCH, STRIDE, occlusion_maps
from mien.preprocess import crop_face, crop_square, smoothed, whole_face
from mien.results import Box

#: What a map's values mean, by method.
METHODS = {
    "occlusion": "loss of the class's probability when that part is covered",
    "gradcam": "Grad-CAM, in units of the class's logit",
}


@dataclass(frozen=True)
class Explanation:
    """One face's answer and the maps behind it.

    Attributes:
        box: the square that was cut out, in pixels of the image.
        turn: degrees by which it was turned back around its centre, as a face that leans is.
        crop: uint8 (S, S), the face as the network saw it.
        probabilities: of every class.
        maps: class -> float32 (S, S), for the classes explained, best first.
        method: a key of :data:`METHODS`.
    """

    box: Box
    crop: NDArray[np.uint8]
    probabilities: Mapping[Label, float]
    maps: Mapping[Label, NDArray[np.float32]]
    method: str
    turn: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; maps are rows from top to bottom, four decimals."""
        return {
            "box": self.box.to_dict(),
            "turn": round(self.turn, 1),
            "probabilities": {e.value: round(p, 6) for e, p in self.probabilities.items()},
            "method": self.method,
            "unit": METHODS[self.method],
            "maps": {e.value: np.round(m.astype(float), 4).tolist() for e, m in self.maps.items()},
        }


def explain_faces(
    classifier: Any,
    crops: NDArray[np.uint8],
    boxes: Sequence[Box],
    *,
    method: str = "occlusion",
    top: int = 2,
    patch: int = PATCH,
    stride: int = STRIDE,
    turns: Sequence[float] | None = None,
) -> tuple[Explanation, ...]:
    """Explain the ``top`` most probable classes of each face.

    Args:
        classifier: anything with ``info`` and ``predict_proba``; for "gradcam" a loaded checkpoint.
        crops: uint8 (N, S, S), S the network's input.
        boxes: where the N crops were cut out.
        method: "occlusion" or "gradcam".
        top: classes a face.
        patch, stride: of the occlusion, in pixels of the crop.
        turns: degrees by which each crop was turned back; None where none was.

    Raises:
        ModelError: unknown method; or Grad-CAM for a model without gradients.
    """
    if method not in METHODS:
        raise ModelError(f"Unknown method {method!r}; choose one of {', '.join(METHODS)}.")
    if method == "gradcam":
        if not hasattr(classifier, "model"):
            raise ModelError(
                f"Grad-CAM needs gradients, and {classifier.info.name} is an ONNX model; give its "
                "checkpoint (.ckpt), or --method occlusion."
            )
        from mien.explain.gradcam import gradcam_maps

        rows, maps = gradcam_maps(classifier, crops)
    else:
        rows, maps = occlusion_maps(classifier.predict_proba, crops, patch=patch, stride=stride)
    labels = classifier.info.labels
    explained = []
    turns = [0.0] * len(crops) if turns is None else turns
    for crop, box, turn, row, stack in zip(crops, boxes, turns, rows, maps, strict=True):
        best = np.argsort(-row, kind="stable")[: max(1, top)].tolist()
        explained.append(
            Explanation(
                box=box,
                crop=crop,
                probabilities=dict(zip(labels, row.tolist(), strict=True)),
                maps={labels[k]: stack[k] for k in best},
                method=method,
                turn=turn,
            )
        )
    return tuple(explained)


def explain_photo(
    image: NDArray[np.uint8],
    classifier: Any,
    detector: Detector | None,
    **options: Any,
) -> tuple[Explanation, ...]:
    """Find the faces of a photo and explain each.

    Args:
        image: uint8 (H, W, 3), BGR.
        classifier: see :func:`explain_faces`.
        detector: None takes the whole image as one face.
        options: further arguments of :func:`explain_faces`.

    Returns:
        one explanation a face, in the detector's order; none if there is no face.
    """
    info, image = classifier.info, smoothed(image)
    height, width = image.shape[:2]
    if detector is None:
        whole = Box(0.0, 0.0, float(width), float(height))
        return explain_faces(classifier, whole_face(image, info)[None], [whole], **options)
    found: tuple[Detection, ...] = detector.detect(image)
    if not found:
        return ()
    crops = np.stack([crop_face(image, d, info) for d in found])
    boxes, turns = zip(*(crop_square(d, info) for d in found), strict=True)
    return explain_faces(classifier, crops, boxes, turns=turns, **options)
