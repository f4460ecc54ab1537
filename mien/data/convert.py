"""Write a dataset as CSV, class folders or parquet; read again, it has the same SHA-256."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2

from mien._system import import_pyarrow_parquet
from mien.atomic import atomic_folder, atomic_path, open_atomic
from mien.data.dataset import FaceDataset, official_split
from mien.data.fercsv import SIDE
from mien.data.folders import NO_SPLIT, SPLIT_FOLDERS
from mien.data.parquet import VOTE_COLUMNS
from mien.emotions import FERPLUS_COLUMNS
from mien.errors import DataError, OutputError
from mien.text import csv_line

FORMS = ("csv", "folder", "parquet")


def form_of(path: Path, form: str | None = None) -> str:
    """The form to write: ``form`` if given, else by the suffix; no suffix is a folder.

    Raises:
        DataError: neither says which.
    """
    if form is not None:
        if form not in FORMS:
            raise DataError(f"Unknown form {form!r}; known: {', '.join(FORMS)}.")
        return form
    by_suffix = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", "": "folder"}
    suffix = path.suffix.lower()
    if suffix not in by_suffix:
        raise DataError(f"{path} does not say which form to write; add --to csv|folder|parquet.")
    return by_suffix[suffix]


def write_dataset(dataset: FaceDataset, path: Path, form: str | None = None) -> list[Path]:
    """Write ``dataset`` to ``path``, whole or not at all, and return what was written.

    Args:
        form: "csv", "folder" or "parquet"; by the suffix of ``path`` when None.

    Raises:
        DataError: the form cannot hold the dataset (a CSV: other sizes than 48×48).
        OutputError: the disk is full, the folder is missing or not empty, ...
    """
    writers = {"csv": _write_csv, "folder": _write_folder, "parquet": _write_parquet}
    return writers[form_of(path, form)](dataset, path)


def _write_csv(dataset: FaceDataset, path: Path) -> list[Path]:
    """As Kaggle's ``fer2013.csv`` where the rows are FER2013's; else with id and group columns."""
    if dataset.images.shape[1:] != (SIDE, SIDE):
        raise DataError(f"FER2013's CSV holds 48×48 pixels, not {dataset.images.shape[1:]}.")
    codes = dataset.name == "fer2013"
    rows = [f"fer2013:{i:05d}" for i in range(len(dataset))]
    original = codes and dataset.ids.tolist() == rows
    levels = [str(v) for v in range(256)]
    with open_atomic(path, newline="") as file:
        extra = [] if original else ["id", "group"]
        file.write(csv_line(["emotion", "pixels", "Usage", *extra]))
        for i in range(len(dataset)):
            label = int(dataset.labels[i])
            row = [
                label if codes else dataset.classes[label].value,
                " ".join(map(levels.__getitem__, dataset.images[i].tobytes())),
                _official(dataset, i),
            ]
            if not original:
                row += [str(dataset.ids[i]), str(dataset.groups[i])]
            file.write(csv_line(row))
    if dataset.votes is None:
        return [path]
    return [path, _write_votes(dataset, path.with_name(f"{path.stem}new.csv"))]


def _write_votes(dataset: FaceDataset, path: Path) -> Path:
    """FER+ votes in the form of ``fer2013new.csv``."""
    assert dataset.votes is not None
    with open_atomic(path, newline="") as file:
        file.write(csv_line(["Usage", "Image name", *FERPLUS_COLUMNS]))
        for i, votes in enumerate(dataset.votes.tolist()):
            cells = [_official(dataset, i), f"fer{i:07d}.png", *(f"{v:g}" for v in votes)]
            file.write(csv_line(cells))
    return path


def _official(dataset: FaceDataset, i: int) -> str:
    """The split of sample ``i``; FER2013's, which hubs rename, as its publisher writes it."""
    split = str(dataset.splits[i])
    return official_split(split) if dataset.name == "fer2013" else split


def _relative_name(dataset: FaceDataset, i: int) -> Path:
    """Where sample ``i`` goes in a tree of class folders, so that its id can be read back."""
    emotion = dataset.classes[int(dataset.labels[i])].value
    split, key = str(dataset.splits[i]), str(dataset.ids[i])
    rest = quote(key.split(":", 1)[-1], safe="")
    if split and split.lower() not in SPLIT_FOLDERS:
        raise DataError(
            f"Sample {key} is of a split {split!r}, which no folder's name stands for; rename the "
            "split to train, validation or test."
        )
    if dataset.name == "fer2013" and split:
        official = _official(dataset, i)
        top = "train" if official == "Training" else "test"
        stem = f"{official}_{rest}" if rest.isdigit() else rest
        return Path(top, emotion, f"{stem}.png")
    if dataset.name == "ckplus":
        return Path(emotion, f"{rest}.png")
    return Path(split or ".", emotion, f"{quote(key, safe='')}.png")


def _write_folder(dataset: FaceDataset, path: Path) -> list[Path]:
    """Class folders of PNG files: FER2013 as the Kaggle release, CK+ as CK+48."""
    path = path.absolute()
    if path == Path.cwd():
        raise OutputError("The folder that you are in cannot be written anew; name a new folder.")
    mixed = dataset.name not in ("fer2013", "ckplus") and len({bool(s) for s in dataset.splits}) > 1
    with atomic_folder(path) as temporary:
        for i in range(len(dataset)):
            name = _relative_name(dataset, i)
            if mixed and not dataset.splits[i]:
                name = Path(NO_SPLIT) / name  # muxspace's half of FERGIT
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_png(dataset, i))
    return [path]


def _png(dataset: FaceDataset, i: int) -> bytes:
    done, data = cv2.imencode(".png", dataset.images[i])
    if not done:
        raise DataError(f"The image of {dataset.ids[i]} cannot be encoded as PNG.")
    return bytes(data.tobytes())


def _write_parquet(dataset: FaceDataset, path: Path) -> list[Path]:
    """Parquet with id, image {bytes: PNG, path}, emotion (name), usage, group, votes, lossless."""
    pq = import_pyarrow_parquet()
    import pyarrow as pa

    n = len(dataset)
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [
        {"bytes": _png(dataset, i), "path": f"{quote(str(dataset.ids[i]), safe='')}.png"}
        for i in range(n)
    ]
    columns: dict[str, Any] = {
        "id": dataset.ids.tolist(),
        "usage": dataset.splits.tolist(),
        "emotion": [dataset.classes[k].value for k in dataset.labels.tolist()],
        "group": dataset.groups.tolist(),
        "image": pa.array(images, type=image_type),
    }
    if dataset.lossless is not None:
        columns["lossless"] = dataset.lossless
    if dataset.votes is not None:
        columns |= {c: dataset.votes[:, k] for k, c in enumerate(VOTE_COLUMNS)}
    table = pa.table(columns)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return [path]
