"""What a trained network says of images that anybody may see, and how a report shows it.

A public-domain portrait, with the papers' Haar detection and crop, and the average face of each
class (the mean of PublicTest's images of that class: nobody's face).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset
from mien.evaluate.runner import Classifier
from mien.images import read_image
from mien.report import charts
from mien.report import document as doc
from mien.report.document import Block, Section, percent, slug
from mien.report.svg import class_colour, document, num, rect, text
from mien.reproduce.record import Photo, PhotoFace, Record
from mien.reproduce.spec import RunSpec

PORTRAIT = "astronaut.jpg"

_WIDTH = 440
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 82]


def predict_portraits(classifier: Classifier, fer2013: FaceDataset | None) -> tuple[Photo, ...]:
    """The ``photos`` of a reproduction: boxes and probabilities, no pixels.

    Args:
        fer2013: for the average faces; None leaves them out.
    """
    from mien.data.fergit import crop_square
    from mien.detect import load_detector

    image = _portrait()
    faces = []
    for found in load_detector("haar", min_face=0.1).detect(image):
        box = (found.box.x, found.box.y, found.box.width, found.box.height)
        x, y, w, h = (round(float(v), 1) for v in box)
        faces.append(_said(classifier, crop_square(image, found.box), (x, y, w, h)))
    source = "Eileen Collins, NASA, public domain; found and cropped with Haar"
    photos = [Photo(PORTRAIT, tuple(faces), source)] if faces else []
    known = [] if fer2013 is None else [fer2013]
    for emotion in (c for data in known for c in data.classes):
        chosen = _of_class(known, emotion.value)
        if chosen is not None:
            said = (_said(classifier, _average(chosen)),)
            source = f"mean of the {len(chosen)} {emotion.value} images of PublicTest"
            photos.append(Photo(f"average {emotion.value} face", said, source, emotion.value))
    return tuple(photos)


def _said(
    classifier: Classifier,
    face: NDArray[np.uint8],
    box: tuple[float, float, float, float] | None = None,
) -> PhotoFace:
    sure = np.asarray(classifier.predict_proba(face[None]))[0]
    names = [c.value for c in classifier.info.labels]
    shown = {name: round(float(p), 4) for name, p in zip(names, sure, strict=True)}
    return PhotoFace(names[int(sure.argmax())], shown, box)


def _of_class(datasets: Sequence[FaceDataset], name: str) -> NDArray[np.uint8] | None:
    """The PublicTest images of a class, from the first dataset that has any."""
    for data in datasets:
        named = np.array([c.value for c in data.classes])[data.labels] == name
        images: NDArray[np.uint8] = data.images[named & (data.splits == "PublicTest")]
        if len(images):
            return images
    return None


def _average(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(images.mean(axis=0).round(), np.uint8)


def _portrait() -> NDArray[np.uint8]:
    return read_image(resources.files("mien").joinpath("assets", PORTRAIT).read_bytes())


def about(run: RunSpec, folder: str) -> str:
    """What is to be said of the predictions of the run in ``folder`` of the folder of runs."""
    said = (
        f"{run.label}, first seed, chosen epoch. The faces of the papers' own photos are not free "
        "to show: the portrait is in the public domain, and an average face is nobody's. An "
        "average is smoother than any face that the network learned from, so its answers there are "
        "a curiosity and no measure."
    )
    if not folder:
        return said
    return (
        f"{said} On your own photos: mien export runs/{folder}/best.ckpt --out "
        f"{run.id}.onnx, then mien predict PHOTO --model {run.id}.onnx, and in front of a webcam "
        f"mien live --model {run.id}.onnx."
    )


def photo_section(record: Record, datasets: Sequence[FaceDataset] = ()) -> Section:
    """What the network says of every face on the record's photos, with its confidence.

    With a dataset of the record's classes, the average faces are shown too, in the HTML page only.
    """
    drawn, rows, faces = [], [], []
    for photo in record.photos:
        if photo.name == PORTRAIT:
            svg = _boxes(_portrait(), photo.faces, photo.name)
            drawn.append(doc.Chart(f"photo-{slug(photo.name)}", svg, photo.name, photo.source))
        for i, face in enumerate(photo.faces, 1):
            which = f"{photo.name}, face {i}" if len(photo.faces) > 1 else photo.name
            sure = face.probabilities[face.emotion]
            rows.append([which, photo.expected or "–", face.emotion, percent(sure, 1)])
            svg = charts.probability_bars(face.probabilities)
            drawn.append(doc.Chart(f"photo-{slug(which)}-probabilities", svg, which))
            images = _of_class(datasets, photo.expected)
            if images is not None:
                said = f"{photo.expected} → {face.emotion}, {percent(sure, 0)}"
                faces.append(doc.Face(_average(images), photo.name, said))
    blocks: list[Block] = [doc.Text(record.photos_run.text)] if record.photos_run else []
    blocks.append(doc.Table(["face", "shows", "predicted", "confidence"], rows, left=3))
    blocks += [doc.Gallery([("average faces", faces)])] if faces else []
    return Section("photos", "Predictions on photos", [*blocks, doc.Charts(drawn)])


def _boxes(image: NDArray[np.uint8], faces: Sequence[PhotoFace], name: str) -> str:
    """The image, scaled to the report, with a named box on every face."""
    scale = _WIDTH / image.shape[1]
    height = round(image.shape[0] * scale)
    small = cv2.resize(image, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    data = base64.b64encode(cv2.imencode(".jpg", small, _QUALITY)[1].tobytes()).decode("ascii")
    href = f'href="data:image/jpeg;base64,{data}"'
    parts = [f'<image x="0" y="0" width="{_WIDTH}" height="{height}" {href}/>']
    for face in faces:
        if face.box is None:
            continue
        x, y, w, h = (float(v) * scale for v in face.box)
        fill = class_colour(face.emotion)
        outline = f' stroke="{fill}" stroke-width="3" rx="6"'
        parts.append(rect(x, y, w, h, "none", face.emotion, outline))
        words = f"{face.emotion} {100 * face.probabilities[face.emotion]:.0f} %"
        wide = 6.6 * len(words) + 14
        top = y - 22 if y >= 24 else y + h + 4
        left = min(max(x, 0), _WIDTH - wide)
        parts.append(rect(left, top, wide, 19, "var(--surface)", extra=' rx="5"'))
        parts.append(text(left + 7, top + 14, words, "strong", f' style="fill:{fill}"'))
    return document(parts, _WIDTH, float(num(height)), f"Faces found on {name}")
