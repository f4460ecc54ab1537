"""Teach mien classes of your own, here "plain", "glasses" and "bar", on images that are drawn.

    python examples/own_classes.py [FOLDER]

With your own photos in a folder a class, all of this is: mien finetune PHOTOS --out mine.onnx
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

import mien

CLASSES = ("plain", "glasses", "bar")


def draw_images(folder: Path, count: int = 12, seed: int = 0) -> None:
    """The portrait that ships with mien, turned, scaled and lit anew, with something drawn on."""
    portrait = cv2.imread(str(resources.files("mien").joinpath("assets/astronaut.jpg")))
    assert portrait is not None
    eyes, mouth = [(200, 102), (247, 102)], (220, 143)  # of the portrait, in pixels
    rng = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = portrait.copy()
            ink = tuple(int(v) for v in rng.integers(0, 60, 3))
            if name == "glasses":
                for eye in eyes:
                    cv2.circle(image, eye, 15, ink, 5, cv2.LINE_AA)
                cv2.line(image, (215, 102), (232, 102), ink, 5, cv2.LINE_AA)
            if name == "bar":
                x, y = mouth
                cv2.rectangle(image, (x - 26, y - 7), (x + 26, y + 9), ink, -1)
            height, width = image.shape[:2]
            turn = cv2.getRotationMatrix2D(
                (222, 130), float(rng.uniform(-12, 12)), float(rng.uniform(0.8, 1.2))
            )
            turn[:, 2] += rng.uniform(-8, 8, 2)
            image = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
            light, dark = rng.uniform(0.7, 1.2), rng.uniform(-20, 20)
            image = np.clip(image * light + dark, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{number:02d}.jpg"), image)


def main(folder: Path) -> None:
    """Draw, learn, and ask."""
    draw_images(folder / "photos")
    result = mien.finetune(folder / "photos", out=folder / "mine.onnx", method="linear")
    print(f"{result.accuracy:.0%} of {result.report.n} faces that it had not seen")

    seen = mien.predict(folder / "photos" / "glasses" / "00.jpg", model=folder / "mine.onnx")
    print(seen.faces[0].emotion, f"{seen.faces[0].confidence:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
