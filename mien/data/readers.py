"""``read_dataset``: take a file or folder in any published form and find out by content which."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mien.data import fercsv, folders, parquet, photos
from mien.data.dataset import FaceDataset
from mien.data.ferplus import majority_view
from mien.errors import DataError
from mien.text import printable

_DATA_SUFFIXES = (".csv", ".parquet", ".pq")
#: Datasets that mien knows by their content; one's own is called as its folder or file is.
_NAMES = ("fer2013", "ferplus-majority", "ckplus", "fergit", "photo", "mien")
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Candidate:
    """One dataset found in a folder: what to call it, its form, and where it is."""

    name: str
    form: str
    path: Path


def default_data_path() -> Path:
    """The data folder: ``$MIEN_DATA``.

    Raises:
        DataError: it is not set, or not there.
    """
    given = os.environ.get("MIEN_DATA")
    if given:
        path = Path(given)
        if not path.exists():
            raise DataError(f"MIEN_DATA is {given}, which does not exist; correct it.")
        return path
    raise DataError("No dataset was named; pass --data PATH or set MIEN_DATA.")


def sniff_file(path: Path) -> str:
    """The form of one file by its content: "csv", "votes", "legend", "parquet" or "photos".

    Raises:
        DataError: it is empty, unreadable, or none of these.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its rights.") from None
    if not start:
        raise DataError(f"{path} is empty; fetch it again.")
    if start == b"PAR1":
        schema = parquet.parquet_schema(path)
        return "photos" if photos.is_photo_schema(schema.names) else "parquet"
    if start[:2] == b"PK" or start[:2] == b"\x1f\x8b":
        raise DataError(f"{path} is an archive; unpack it and pass the folder.")
    header = fercsv.read_header(path) if b"\0" not in start else []
    if fercsv.is_ferplus_header(header):
        return "votes"
    if fercsv.is_fer2013_header(header):
        return "csv"
    if photos.is_legend(header):
        return "legend"
    raise DataError(
        f"{path} is no dataset that mien knows; expected FER2013's CSV (emotion, pixels, Usage), "
        "parquet with an image column, muxspace's legend.csv, or a folder of class folders."
    )


def find_datasets(folder: Path, depth: int = 2) -> list[Candidate]:
    """Every dataset in ``folder``; if there is none, in the folders inside it.

    Raises:
        DataError: a folder cannot be read.
    """
    inner, files = folders.list_folder(folder)
    found: list[Candidate] = []
    if folders.class_folders(folder):
        found.append(Candidate(folder.resolve().name, "folder", folder))
    if photos.find_legend(folder) is not None:
        found.append(Candidate(folder.resolve().name, "photos", folder))
    for file in files:
        if file.suffix.lower() not in _DATA_SUFFIXES:
            continue
        try:
            form = sniff_file(file)
        except DataError:
            continue
        if form in ("csv", "parquet", "photos"):
            found.append(Candidate(file.stem, form, file))
    shards = [c for c in found if c.form == "parquet" and _SHARD.fullmatch(c.name)]
    if shards and len(shards) == len(found):
        return [Candidate(folder.resolve().name, "shards", folder)]
    if found or depth == 0:
        return found
    return [c for sub in inner for c in find_datasets(sub, depth - 1)]


def locate(path: Path, name: str | None = None) -> Candidate:
    """The dataset at ``path``; in a folder with several, the one called ``name``.

    Raises:
        DataError: none is there, several are and ``name`` picks none, or the path is missing.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path given as --data.")
    if path.is_file():
        return Candidate(path.stem, sniff_file(path), path)
    found = find_datasets(path)
    if not found:
        for file in folders.list_folder(path)[1]:
            if file.suffix.lower() in _DATA_SUFFIXES:
                sniff_file(file)  # says what is wrong with it
        inner = folders.list_folder(path)[0]
        inner += [f for split in inner for f in folders.list_folder(split)[0]]
        own = list(dict.fromkeys(f.name for f in inner if folders.list_folder(f)[1]))
        if len(own) > 1:
            raise DataError(
                f"{path} has the folders {', '.join(map(printable, own[:5]))}, and none has an "
                "expression's name: call numbered ones by name (datasets number them differently); "
                f"for classes of your own: mien finetune {path} --out mine.onnx"
            )
        raise DataError(
            f"{path} holds no dataset that mien knows; expected a FER2013 CSV, a parquet file, "
            "class folders such as train/angry, or muxspace's images with data/legend.csv."
        )
    for file in folders.list_folder(path)[1]:  # no other is taken for one that is damaged
        wanted = name is None or _called([Candidate(file.stem, "", file)], name)
        if wanted and file.suffix.lower() in (".parquet", ".pq"):
            sniff_file(file)
    if name is None and len(found) == 1:
        return found[0]
    if name is None:
        listed = ", ".join(c.name for c in found)
        raise DataError(
            f"{path} holds {len(found)} datasets ({listed}); say which with --name, or pass the "
            "file itself."
        )
    chosen = _called(found, name)
    if not chosen:  # a file at the top does not hide the folders beside it (CK+48/)
        found += [c for c in _below(path) if c not in found]
        chosen = _called(found, name)
    if len(chosen) != 1:
        listed = ", ".join(c.name for c in found)
        raise DataError(f"{path} holds no single dataset called {name!r}; it has: {listed}.")
    return chosen[0]


def _below(folder: Path) -> list[Candidate]:
    """The datasets in the folders of ``folder`` that are no part of a tree of classes."""
    if folders.class_folders(folder):
        return []
    return [c for sub in folders.list_folder(folder)[0] for c in find_datasets(sub, 1)]


def _called(found: list[Candidate], name: str) -> list[Candidate]:
    """Those of that name; else those whose name begins so. "CK+48" is called ckplus48 too."""

    def bare(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower().replace("+", "plus"))

    exact = [c for c in found if bare(c.name) == bare(name)]
    return exact or [c for c in found if bare(c.name).startswith(bare(name))]


def read_dataset(
    path: str | os.PathLike[str], name: str | None = None, *, skip_bad: bool = False
) -> FaceDataset:
    """Read face crops in any published form; which one is found out by content.

    Args:
        path: a FER2013 CSV (FER+ votes beside it are taken along), a parquet file with an image
            column, a tree of class folders (FER2013's Kaggle release, CK+48, plain), or a folder
            that contains one of these.
        name: which dataset, where a folder contains several: its file name without suffix, or
            the beginning of it.
        skip_bad: leave bad rows out (they are listed in ``notes``) instead of failing.

    Raises:
        DataError: nothing readable is there, or a row is bad; one sentence with file and row.
        MissingExtraError: parquet without pyarrow.
    """
    found = locate(Path(path), name)
    readers: dict[str, Callable[..., FaceDataset]] = {
        "csv": fercsv.read_fer2013_csv,
        "folder": folders.read_folder,
        "parquet": parquet.read_parquet,
        "shards": parquet.read_shards,
    }
    if found.form in readers:
        dataset = readers[found.form](found.path, skip_bad=skip_bad)
        own = dataset.name == "faces" and found.name.lower() not in _NAMES
        return replace(dataset, name=printable(found.name)) if own else dataset
    if found.form == "votes":
        raise DataError(
            f"{found.path} holds FER+ votes and no images; pass FER2013's CSV beside it."
        )
    raise DataError(
        f"{found.path} holds photos of varied size, not face crops; make crops of them with: "
        "mien data build-fergit."
    )


def read_for_protocol(
    path: str | os.PathLike[str] | None, protocol: str, name: str | None = None
) -> FaceDataset:
    """Read the dataset that ``protocol`` divides; in a folder of several, it picks the one.

    Args:
        path: as :func:`read_dataset`; None takes :func:`default_data_path`.
        protocol: a key of ``PROTOCOLS``: "ckplus-random" looks for CK+, the others for FER2013
            or FERGIT; "ferplus-majority" relabels FER2013 by its FER+ votes.
        name: which dataset, if the folder has several and the protocol's guess is wrong.

    Raises:
        DataError: as :func:`read_dataset`.
    """
    source = default_data_path() if path is None else Path(path)
    if name is None and source.is_dir():
        guess = next((g for g in ("ckplus", "fergit") if protocol.startswith(g)), "fer2013")
        with suppress(DataError):
            locate(source, guess)
            name = guess
    dataset = read_dataset(source, name)
    return majority_view(dataset) if protocol == "ferplus-majority" else dataset


def read_photo_dataset(
    path: str | os.PathLike[str], name: str | None = None
) -> photos.PhotoDataset:
    """Read muxspace's photos from parquet, its folder, or a folder that contains one of these.

    Raises:
        DataError: there are none, or the legend is malformed.
    """
    folder = Path(path)
    if name is None and folder.is_dir() and photos.find_legend(folder) is None:
        every = find_datasets(folder)
        every += [c for c in _below(folder) if c not in every]
        several = [c for c in every if c.form == "photos"]
        if len(several) == 1:
            return photos.read_photos(several[0].path)
    found = locate(folder, name)
    if found.form not in ("photos", "legend"):
        raise DataError(
            f"{found.path} holds no labelled photos; pass muxspace's folder or file (in mien data "
            "build-fergit as --muxspace)."
        )
    return photos.read_photos(found.path)


def read_for_audit(
    path: str | os.PathLike[str], name: str | None = None, *, skip_bad: bool = False
) -> FaceDataset:
    """As :func:`read_dataset`, but photos of varied size come too, squeezed to grey thumbnails."""
    found = locate(Path(path), name)
    if found.form in ("photos", "legend"):
        return photos.thumbnails(photos.read_photos(found.path), skip_bad=skip_bad)
    return read_dataset(path, name, skip_bad=skip_bad)


def read_fer2013_in(path: str | os.PathLike[str]) -> FaceDataset:
    """FER2013 at ``path``, or the one of several datasets in that folder that is called so.

    Raises:
        DataError: as :func:`read_dataset`.
    """
    folder = Path(path)
    found = find_datasets(folder) if folder.is_dir() else []
    names = [c.name for c in found if c.form != "photos"]
    return read_dataset(folder, "fer2013" if len(names) > 1 else next(iter(names), None))
