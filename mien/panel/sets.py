"""The sets of the photo panel, each read where it lies, and its two halves."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import read_dataset
from mien.data.parquet import image_bytes, parquet_schema, read_table
from mien.data.photo_set import MUXSPACE_TRAINED, held_out_subject, number_of
from mien.data.photos import PhotoDataset
from mien.data.readers import read_photo_dataset
from mien.emotions import ALL, Emotion, Label, parse_emotion
from mien.errors import DataError, nearest
from mien.images import read_image
from mien.sources import SUFFIXES, UNREAD_SUFFIXES

HALVES = ("development", "test", "all")

#: Photos of one class and set that are looked at: muxspace has 6,868 neutral ones.
PER_CLASS = 150

#: FER2013's PublicTest faces that are pasted into scenes.
PASTED = 600

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class PanelPhoto:
    """One photo of one face.

    Attributes:
        id: unique in its set.
        label: the expression, as the set's publisher says.
        person: who is shown (or who took it): the halves are divided by it.
        image: gives uint8 (H, W, 3), BGR.
        tags: what is known of the person, e.g. {"gender": "female"}.
    """

    id: str
    label: Label
    person: str
    image: Callable[[], Image]
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def half(self) -> str:
        """ "development" or "test": the same for all photos of a person."""
        return HALVES[number_of(self.person) % 2]


@dataclass(frozen=True)
class PanelSet:
    """Photos of one source.

    Attributes:
        remark: what the report says of them.
        crops: each already is a face cut out.
        left_out: folders of photos whose names are no expressions.
    """

    name: str
    photos: Sequence[PanelPhoto]
    remark: str = ""
    crops: bool = False
    left_out: tuple[str, ...] = ()

    def of_half(self, half: str) -> PanelSet:
        """The photos of one half. Raises DataError for an unknown one."""
        if half not in HALVES:
            raise DataError(f"Unknown half {half!r}; known: {', '.join(HALVES)}.")
        kept = [p for p in self.photos if half in ("all", p.half)]
        return replace(self, photos=kept)

    def first(self, count: int | None) -> PanelSet:
        """At most ``count`` photos of each class, in an order that no name decides."""
        if count is None:
            return self
        ordered = sorted(self.photos, key=lambda p: number_of(p.id))
        taken: dict[Label, int] = {}
        kept = []
        for photo in ordered:
            taken[photo.label] = taken.get(photo.label, 0) + 1
            if taken[photo.label] <= count:
                kept.append(photo)
        return replace(self, photos=kept)


def load_sets(folder: Path) -> list[PanelSet]:
    """Every set of the panel that ``folder`` holds: London, CK+, muxspace, FER2013.

    Args:
        folder: with ``london.parquet``, CK+48, muxspace and FER2013 in any published form.

    Raises:
        DataError: it holds none of them.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one that holds the panel's datasets.")
    makers = (_london, _ckplus, _muxspace, _pasted)
    found, missing = [], []
    for maker in makers:
        try:
            found.append(maker(folder))
        except DataError as error:
            missing.append(str(error))
    if not found:
        raise DataError(f"{folder} holds no set of the panel: {missing[0]}")
    return found


def _london(folder: Path) -> PanelSet:
    path = folder / "london.parquet"
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    if not {"face_id", "emotion", "image"} <= set(parquet_schema(path).names):
        raise DataError(f"{path} lacks the columns face_id, emotion and image.")
    table = read_table(path, ["face_id", "emotion", "gender", "ethnicity", "age", "image"])
    blobs, rows = image_bytes(table["image"]), table.drop_columns(["image"]).to_pylist()
    photos = [
        PanelPhoto(
            id=f"london:{row['face_id']}:{row['emotion']}",
            label=parse_emotion(row["emotion"]),
            person=f"lon{row['face_id']}",
            image=partial(read_image, blob or b""),
            tags={
                "gender": str(row["gender"]),
                "ethnicity": str(row["ethnicity"]),
                "age": _age(str(row.get("age"))),
            },
        )
        for row, blob in zip(rows, blobs, strict=True)
    ]
    remark = "102 adults, one neutral and one smiling photo each; many smiles keep the mouth closed"
    return PanelSet("London", photos, remark)


def _age(years: str) -> str:
    """The age group, of three that hold similar numbers; "unknown" where no age is stated."""
    try:
        return ("18 to 22", "23 to 28", "29 to 54")[bisect_right((22.5, 28.5), float(years))]
    except ValueError:
        return "unknown"


def _ckplus(folder: Path) -> PanelSet:
    data = read_dataset(folder, "ckplus")
    photos = [
        PanelPhoto(
            str(data.ids[i]),
            data.classes[int(data.labels[i])],
            f"ckd{data.groups[i]}",
            partial(_bgr, data.images[i]),
        )
        for i in range(len(data))
        if data.classes[int(data.labels[i])] is not Emotion.CONTEMPT
        and held_out_subject(str(data.groups[i]))
    ]
    remark = "faces already cut out; contempt left out; a third of the subjects"
    return PanelSet("CK+", photos, remark, crops=True)


def _muxspace(folder: Path) -> PanelSet:
    data = read_photo_dataset(folder)
    trained = [user in MUXSPACE_TRAINED for user in data.users]
    known = {_encoded(data, i) for i, used in enumerate(trained) if used}
    photos = [
        # "Jayamadhuri_86" is a photo of the person that "Jayamadhuri_12" shows.
        PanelPhoto(
            data.ids[i],
            emotion,
            "mux" + re.sub(r"_\d+(#\d+)?$", "", data.ids[i].partition(":")[2]),
            partial(data.image, i),
        )
        for i in range(len(data))
        if not trained[i]
        and (emotion := data.emotion(i)) is not None
        and emotion is not Emotion.CONTEMPT
        and _encoded(data, i) not in known
    ]
    remark = "web photos that one labeller each named; noisy; other labellers' are for training"
    whole = PanelSet("muxspace", photos, remark)
    return whole.first(PER_CLASS)


def _encoded(data: PhotoDataset, i: int) -> bytes:
    """The bytes of photo ``i``; its id where its file is missing."""
    try:
        return data.encoded(i)
    except OSError:
        return data.ids[i].encode()


def _pasted(folder: Path) -> PanelSet:
    """PublicTest faces in a larger canvas, to be found again: detection counts in."""
    data = read_dataset(folder, "fer2013")
    rows = [i for i in range(len(data)) if data.splits[i] == "PublicTest"]
    photos = [
        PanelPhoto(
            str(data.ids[i]),
            data.classes[int(data.labels[i])],
            str(data.ids[i]),
            partial(_pasted_face, data.images[i], str(data.ids[i])),
        )
        for i in rows
    ]
    order = sorted(photos, key=lambda p: number_of(p.id))[:PASTED]
    return PanelSet("PublicTest, pasted", order, "FER2013's faces enlarged in a canvas of 480")


def read_class_folders(folder: Path) -> PanelSet:
    """Anybody's own photos, in folders named by expression ("happy", "Anger", …).

    Raises:
        DataError: no folder is named by an expression, or none holds an image.
    """
    photos = []
    left_out = []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        inside = sorted(p for p in sub.rglob("*") if p.is_file() and p.name[0] != ".")
        files = [p for p in inside if p.suffix.lower() in SUFFIXES | UNREAD_SUFFIXES]
        try:
            label = parse_emotion(sub.name)
        except DataError:
            if files and sub.name[0] != ".":
                left_out.append(sub.name)
            continue
        for file in files:
            name = file.relative_to(folder).as_posix()
            photos.append(PanelPhoto(name, label, name, partial(read_image, file)))
    if not photos:
        raise DataError(
            f"{folder} holds no photos in folders named by expression, such as {folder}/happy."
        )
    remark = "own photos"
    if left_out:
        remark += f"; left out, named by no expression: {', '.join(map(_with_nearest, left_out))}"
    return PanelSet(folder.resolve().name, photos, remark, left_out=tuple(left_out))


def _with_nearest(name: str) -> str:
    near = nearest(name.lower(), ALL, "").removeprefix("; ")
    return f"{name} ({near})" if near else name


def _bgr(face: Image) -> Image:
    return np.asarray(cv2.cvtColor(face, cv2.COLOR_GRAY2BGR), dtype=np.uint8)


def _pasted_face(face: Image, key: str) -> Image:
    digest = hashlib.sha256(f"paste|{key}".encode()).digest()
    side = 96 + digest[0] % 145  # 96 to 240 of 480 pixels
    x, y = (480 - side) * digest[1] // 255, (480 - side) * digest[2] // 255
    big = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    around = (y, 480 - side - y, x, 480 - side - x)
    canvas = cv2.copyMakeBorder(big, *around, borderType=cv2.BORDER_REPLICATE)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 15)
    canvas[y : y + side, x : x + side] = big
    return _bgr(np.asarray(canvas, np.uint8))
