"""Labelled photographs of varied size (muxspace), decoded one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.assemble import BadRows, assemble
from mien.data.dataset import FaceDataset
from mien.data.fercsv import csv_rows, read_header
from mien.data.folders import list_folder
from mien.data.parquet import ParquetColumns, image_bytes, parquet_schema, read_table
from mien.emotions import Emotion, parse_emotion
from mien.errors import DataError, ImageError
from mien.images import MAX_PIXELS
from mien.images.codecs import declared_size


@dataclass(frozen=True)
class PhotoDataset:
    """Labelled photos, kept encoded and decoded when asked for.

    Attributes:
        ids: str, "muxspace:" and the file's stem; unique.
        labels: the emotion names as published.
        users: who labelled each photo (muxspace's ``user.id``), or "".
        blobs: encoded bytes, or the path to read them from.
        name: "muxspace".
        source: the path it was read from.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    users: tuple[str, ...]
    blobs: tuple[bytes | Path, ...]
    name: str
    source: str

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self.image(i) for i in range(len(self)))

    def emotion(self, i: int) -> Emotion | None:
        """The label of photo ``i``, or None when it is no known expression."""
        try:
            return parse_emotion(self.labels[i])
        except DataError:
            return None

    def encoded(self, i: int) -> bytes:
        """The file of photo ``i``. Raises OSError where it is missing."""
        blob = self.blobs[i]
        return blob.read_bytes() if isinstance(blob, Path) else blob

    def image(self, i: int) -> NDArray[np.uint8]:
        """Photo ``i``, uint8 (H, W, 3), BGR.

        Raises:
            ImageError: the file is missing, damaged or too large.
        """
        name = f"{self.source}: photo {self.ids[i]}"
        try:
            data = self.encoded(i)
            declared_size(data, name, MAX_PIXELS)  # OpenCV believes whatever a header declares
            image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error):
            image = None
        if image is None:
            raise ImageError(f"{name} cannot be decoded.")
        return np.asarray(image, dtype=np.uint8)


def thumbnails(photos: PhotoDataset, size: int = 48, *, skip_bad: bool = False) -> FaceDataset:
    """Every photo, whole, squeezed to grey uint8 (size, size): for counting and for duplicates.

    They are no face crops: to train on, use ``mien data build-fergit``.

    Raises:
        DataError: a photo cannot be decoded or a label is unknown (unless ``skip_bad``).
    """
    bad = BadRows(photos.source, skip=skip_bad)
    images, emotions, rows = [], [], []
    for i in range(len(photos)):
        emotion = photos.emotion(i)
        if emotion is None:
            bad.add(f"row {i}", f"unknown label {photos.labels[i]!r}")
            continue
        try:
            grey = cv2.cvtColor(photos.image(i), cv2.COLOR_BGR2GRAY)
        except ImageError:
            bad.add(f"row {i}", f"the photo {photos.ids[i]} cannot be decoded")
            continue
        small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
        images.append(np.asarray(small, dtype=np.uint8))
        emotions.append(emotion)
        rows.append(i)
    return assemble(
        images=images,
        emotions=emotions,
        ids=[photos.ids[i] for i in rows],
        name=photos.name,
        source=photos.source,
        groups=[photos.users[i] for i in rows],
        notes=bad.check(),
    )


def is_photo_schema(names: list[str]) -> bool:
    """Whether a parquet's columns are muxspace's: a photo's file, who labelled it, and how."""
    return {"file", "user_id", "emotion"} <= {n.strip().lower() for n in names}


def is_legend(header: list[str]) -> bool:
    """Whether a CSV's columns are those of muxspace's ``legend.csv``."""
    return {"image", "emotion"} <= set(header)


def find_legend(root: Path) -> tuple[Path, Path] | None:
    """(legend.csv, images folder) under ``root``, or None when it is no muxspace tree."""
    folders, files = list_folder(root)
    images = next((f for f in folders if f.name.lower() == "images"), None)
    if images is None:
        return None
    data = [f for f in folders if f.name.lower() == "data"]
    for file in [*files, *(f for d in data for f in list_folder(d)[1])]:
        if file.suffix.lower() != ".csv":
            continue
        with suppress(DataError):  # another CSV, which is none of ours
            if is_legend(read_header(file)):
                return file, images
    return None


def read_photos(path: Path) -> PhotoDataset:
    """Read muxspace from its parquet, its folder, or its ``legend.csv``.

    Photos that cannot be decoded and unknown labels are kept: who uses them says what they were.

    Raises:
        DataError: it is not muxspace, or the legend is malformed.
    """
    if path.is_dir():
        found = find_legend(path)
        if found is None:
            raise DataError(f"{path} has no images folder with a legend.csv; expected muxspace's.")
        return _read_legend(*found, source=path)
    if path.suffix.lower() == ".csv":
        images = next(
            (f for f in (path.parent / "images", path.parent.parent / "images") if f.is_dir()), None
        )
        if images is None:
            raise DataError(f"{path} has no images folder beside it; expected muxspace's.")
        return _read_legend(path, images, source=path)
    return _read_photo_parquet(path)


def _read_photo_parquet(path: Path) -> PhotoDataset:
    schema = parquet_schema(path)
    if not is_photo_schema(schema.names):
        raise DataError(
            f"{path} holds no photos with file, user_id and emotion (columns: "
            f"{', '.join(schema.names)}); expected muxspace."
        )
    columns = ParquetColumns(path, schema)
    named = {name.strip().lower(): name for name in schema.names}
    user = named["user_id"]
    table = read_table(path, list(dict.fromkeys((*columns.all(), user))))
    files = [str(v) for v in table[named["file"]].to_pylist()]
    return PhotoDataset(
        ids=_photo_ids(files),
        labels=tuple(str(v) for v in table[columns.label].to_pylist()),
        users=tuple(str(v) for v in table[user].to_pylist()),
        blobs=tuple(blob or b"" for blob in image_bytes(table[columns.image])),
        name="muxspace",
        source=str(path),
    )


def _read_legend(legend: Path, images: Path, *, source: Path) -> PhotoDataset:
    header = read_header(legend)
    if not is_legend(header):
        raise DataError(f"{legend} lacks the columns image and emotion ({', '.join(header)}).")
    files, labels, users = [], [], []
    image, emotion = header.index("image"), header.index("emotion")
    user = header.index("user.id") if "user.id" in header else None
    for number, fields in csv_rows(legend):
        if len(fields) != len(header):
            raise DataError(
                f"{legend}, row {number}: {len(fields)} fields, expected {len(header)}; "
                "repair or remove the row."
            )
        files.append(fields[image].strip())
        labels.append(fields[emotion].strip())
        users.append("" if user is None else fields[user].strip())
    if not files:
        raise DataError(f"{legend} lists no photos; fetch it again.")
    return PhotoDataset(
        ids=_photo_ids(files),
        labels=tuple(labels),
        users=tuple(users),
        blobs=tuple(images / name for name in files),
        name="muxspace",
        source=str(source),
    )


def _photo_ids(files: list[str]) -> tuple[str, ...]:
    """ "muxspace:" and the file's stem; a file that is listed again gets "#2" and so on.

    Eight of muxspace's photos are listed twice, some with another label.
    """
    seen: dict[str, int] = {}
    ids = []
    for name in files:
        stem = Path(name).stem
        seen[stem] = seen.get(stem, 0) + 1
        ids.append(f"muxspace:{stem}" if seen[stem] == 1 else f"muxspace:{stem}#{seen[stem]}")
    return tuple(ids)
