"""What a trained network says of pictures that anybody may see.

A public-domain portrait, with the papers' Haar detection and crop, and the average face of each
class (the mean of PublicTest's images of that class: nobody's face).
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceDataset
from mien.data.fergit import crop_square
from mien.detect import load_detector
from mien.emotions import Emotion
from mien.images import read_image

PORTRAIT = "astronaut.jpg"


class Classifier(Protocol):
    """A network with its classes: :class:`mien.train.checkpoint.TorchClassifier`."""

    info: Any

    def predict_proba(self, faces: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """uint8 (N, 48, 48) -> probabilities (N, K)."""
        ...


def predict_portraits(classifier: Classifier, fer2013: FaceDataset | None) -> list[dict[str, Any]]:
    """The ``photos`` of a reproduction: boxes and probabilities, no pixels.

    Args:
        fer2013: for the average faces; None leaves them out.
    """
    photos = [_portrait(classifier)]
    if fer2013 is not None:
        photos += [_average(classifier, fer2013, k) for k in range(len(fer2013.classes))]
    return [photo for photo in photos if photo["faces"]]


def _portrait(classifier: Classifier) -> dict[str, Any]:
    image = read_image(resources.files("mien").joinpath("assets", PORTRAIT).read_bytes())
    faces = []
    for found in load_detector("haar", min_face=0.1).detect(image):
        crop = crop_square(image, found.box)
        box = [found.box.x, found.box.y, found.box.width, found.box.height]
        faces.append({"box": [round(float(v), 1) for v in box], **_said(classifier, crop)})
    return {
        "name": PORTRAIT,
        "source": "Eileen Collins, NASA, public domain; found and cropped with Haar",
        "faces": faces,
    }


def _average(classifier: Classifier, fer2013: FaceDataset, k: int) -> dict[str, Any]:
    emotion: Emotion = fer2013.classes[k]
    chosen = fer2013.images[(fer2013.splits == "PublicTest") & (fer2013.labels == k)]
    if not len(chosen):
        return {"name": "", "faces": []}
    face = chosen.mean(axis=0).round().astype(np.uint8)
    return {
        "name": f"average {emotion.value} face",
        "source": f"mean of the {len(chosen)} {emotion.value} images of PublicTest",
        "expected": emotion.value,
        "faces": [_said(classifier, face)],
    }


def _said(classifier: Classifier, face: NDArray[np.uint8]) -> dict[str, Any]:
    sure = np.asarray(classifier.predict_proba(face[None]))[0]
    names = [c.value for c in classifier.info.labels]
    return {
        "emotion": names[int(sure.argmax())],
        "probabilities": {n: round(float(p), 4) for n, p in zip(names, sure, strict=True)},
    }
