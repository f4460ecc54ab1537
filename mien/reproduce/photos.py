"""Predictions on photos: the picture with a box on every face, and the probabilities below.

Only pictures that may be shown anywhere are drawn: those that ship with mien, and those that the
record itself carries.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import cv2
import numpy as np

from mien.data.dataset import FaceDataset
from mien.images import read_image
from mien.report import charts
from mien.report.document import (
    Block,
    Chart,
    Charts,
    Face,
    Gallery,
    Section,
    Table,
    Text,
    number,
    percent,
    slug,
)
from mien.report.svg import class_colour, document, num, rect, text

Record = Mapping[str, Any]

_WIDTH = 440
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 82]


def photo_section(result: Record, datasets: Sequence[FaceDataset] = ()) -> Section | None:
    """What the network says of every face on the record's photos, with its confidence.

    With a dataset of the record's classes, the average faces are shown too, in the HTML page only.
    """
    photos = [p for p in result.get("photos") or () if p.get("faces")]
    if not photos:
        return None
    drawn, rows = [], []
    for photo in photos:
        name = str(photo.get("name", "photo"))
        picture = _picture(name, photo)
        if picture is not None:
            svg = _boxes(picture, photo["faces"], name)
            drawn.append(Chart(f"photo-{slug(name)}", svg, name, str(photo.get("source") or "")))
        for i, face in enumerate(photo["faces"], 1):
            sure = face.get("probabilities") or {}
            which = f"{name}, face {i}" if len(photo["faces"]) > 1 else name
            said = str(face.get("emotion", "–"))
            expected = str(face.get("expected") or photo.get("expected") or "–")
            rows.append([which, expected, said, percent(sure.get(said), 1)])
            if sure:
                svg = charts.probability_bars(sure)
                chart = Chart(f"photo-{slug(which)}-probabilities", svg, which)
                drawn.append(chart)
    header, left = ["face", "shows", "predicted", "confidence"], 3
    if all(row[1] == "–" for row in rows):
        rows = [[row[0], *row[2:]] for row in rows]
        header, left = ["face", "predicted", "confidence"], 2
    blocks: list[Block] = [Table(header, rows, left=left)]
    said_of = str((result.get("photos_run") or {}).get("text", ""))
    if said_of:
        blocks.insert(0, Text(said_of))
    blocks += _average_faces(photos, datasets)
    return Section("photos", "Predictions on photos", [*blocks, Charts(drawn)])


def _average_faces(photos: Sequence[Record], datasets: Sequence[FaceDataset]) -> list[Block]:
    """The average PublicTest face of each class that was predicted on, with what was said."""
    faces = []
    for photo in photos:
        expected, said = photo.get("expected"), photo["faces"][0]
        image = _average(str(expected), datasets) if expected else None
        if image is not None:
            sure = percent((said.get("probabilities") or {}).get(said.get("emotion")), 0)
            faces.append(
                Face(image, f"average {expected} face", f"{expected} → {said['emotion']}, {sure}")
            )
    return [Gallery([("average faces", faces)])] if faces else []


def _average(name: str, datasets: Sequence[FaceDataset]) -> Any:
    for data in datasets:
        names = [c.value for c in data.classes]
        if name in names and "PublicTest" in data.splits:
            chosen = (data.splits == "PublicTest") & (data.labels == names.index(name))
            if chosen.any():
                return data.images[chosen].mean(axis=0).round().astype(np.uint8)
    return None


def _picture(name: str, photo: Record) -> Any:
    """uint8 BGR (H, W, 3) of a photo that may be shown; None where there is none."""
    if photo.get("picture"):
        return read_image(base64.b64decode(photo["picture"]))
    if "/" in name or "\\" in name:
        return None
    for known in (name, f"{name}.jpg"):
        asset = resources.files("mien").joinpath("assets", known)
        if known.endswith((".jpg", ".png")) and asset.is_file():
            return read_image(asset.read_bytes())
    return None


def _boxes(picture: Any, faces: list[Record], name: str) -> str:
    """The picture, scaled to the report, with a named box on every face."""
    scale = _WIDTH / picture.shape[1]
    height = round(picture.shape[0] * scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(picture, (_WIDTH, height), interpolation=method)
    data = base64.b64encode(cv2.imencode(".jpg", small, _QUALITY)[1].tobytes()).decode("ascii")
    parts = [
        f'<image x="0" y="0" width="{_WIDTH}" height="{height}" '
        f'href="data:image/jpeg;base64,{data}"/>'
    ]
    for face in faces:
        if len(face.get("box") or ()) != 4:
            continue
        x, y, w, h = (float(v) * scale for v in face["box"])
        said = str(face.get("emotion", ""))
        fill = class_colour(said)
        outline = f' stroke="{fill}" stroke-width="3" rx="6"'
        parts.append(rect(x, y, w, h, "none", said, outline))
        sure = number((face.get("probabilities") or {}).get(said))
        words = said if sure is None else f"{said} {100 * sure:.0f} %"
        wide = 6.6 * len(words) + 14
        top = y - 22 if y >= 24 else y + h + 4
        left = min(max(x, 0), _WIDTH - wide)
        parts.append(rect(left, top, wide, 19, "var(--surface)", extra=' rx="5"'))
        parts.append(text(left + 7, top + 14, words, "strong", f' style="fill:{fill}"'))
    return document(parts, _WIDTH, float(num(height)), f"Faces found on {name}")
