"""The datasets of a reproduction: read when first asked for, FERGIT built once and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from mien.data import FaceDataset, PhotoDataset, default_data_path, read_dataset, read_for_protocol
from mien.data.readers import locate, read_fer2013_in, read_photo_dataset
from mien.errors import DataError

#: A protocol of each dataset, by which its reader finds it in a folder of several.
_PROTOCOL = {"fer2013": "fer2013", "ckplus": "ckplus-random"}

#: A dry run takes this many samples of each published split, and of FERGIT and its photos.
DRY_SPLIT, DRY_FERGIT = 64, 600


class Datasets:
    """Reads and keeps the datasets.

    Args:
        data: file or folder of the datasets; None takes the default data folder.
        fergit: FERGIT's file, where it was built already.
        cache: folder in which a FERGIT built here is kept ("fergit.parquet").
        build: build FERGIT where it is not found; it takes minutes.
        dry: give small parts of the datasets.
        say: called with one line before something slow.
    """

    def __init__(
        self,
        data: Path | None,
        fergit: Path | None = None,
        *,
        cache: Path,
        build: bool = True,
        dry: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data, self.fergit, self.cache = data, fergit, cache
        self.build, self.dry, self.say = build, dry, say
        self._read: dict[str, FaceDataset] = {}

    def get(self, name: str) -> FaceDataset:
        """The dataset called ``name`` (one of :data:`mien.reproduce.spec.DATASETS`).

        Raises:
            DataError: it is not there, or what is there is another one; it says what to do.
        """
        if name not in self._read:
            found = self._fergit() if name == "fergit" else self._published(name)
            self._read[name] = _small(found) if self.dry else found
        return self._read[name]

    def missing(self, name: str) -> str:
        """Why the dataset cannot be had, in one sentence; "" if it can."""
        try:
            self.get(name)
        except DataError as error:
            return str(error)
        return ""

    @property
    def _where(self) -> Path:
        return default_data_path() if self.data is None else self.data

    def _published(self, name: str) -> FaceDataset:
        try:
            found = read_for_protocol(self._where, _PROTOCOL[name])
        except DataError as error:
            problem = str(error)
        else:
            # A FER2013 that was cut or cleaned counts: its splits decide.
            others = {"fergit", "ckplus"}
            if found.name == name or (name == "fer2013" and found.name not in others):
                return found
            problem = f"what is there is {found.name}"
        raise DataError(f"{self._where} holds no {name} to take as --data: {problem}")

    def _fergit(self) -> FaceDataset:
        kept = self.cache / "fergit.parquet"
        if self.fergit is not None or kept.exists():
            found = read_dataset(self.fergit or kept)
            if found.name != "fergit":
                raise DataError(
                    f"{found.source or found.name} is {found.name}, and fergit is needed; pass "
                    "another file, or leave it out to build it."
                )
            return found
        if self._where.is_dir():
            with suppress(DataError):
                return read_dataset(locate(self._where, "fergit").path)
        if not self.build:
            raise DataError(
                "FERGIT is not built; pass --fergit FILE, or make it with: mien data build-fergit "
                f"--out {kept}"
            )
        return self._build(self._where, kept)

    def _build(self, where: Path, kept: Path) -> FaceDataset:
        from mien.atomic import make_folder
        from mien.data.convert import write_dataset
        from mien.data.fergit import build_fergit
        from mien.detect import load_detector

        photos = read_photo_dataset(where)
        fer2013 = read_fer2013_in(where)
        if self.dry:
            fer2013, photos = _small(fer2013), _first(photos, DRY_FERGIT // 2)
        self.say(f"building FERGIT: looking for faces in {len(photos):,} photos")
        dataset, report = build_fergit(fer2013, photos, load_detector("yunet"))
        self.say(f"FERGIT: {report.total:,} images (the paper's has {report.paper_total:,})")
        if not self.dry:
            make_folder(kept.parent)
            write_dataset(dataset, kept, "parquet")
        return dataset


def _first(photos: PhotoDataset, n: int) -> PhotoDataset:
    parts = {key: getattr(photos, key)[:n] for key in ("ids", "labels", "users", "blobs")}
    return dataclasses.replace(photos, **parts)


def _small(dataset: FaceDataset) -> FaceDataset:
    """A few samples of every published split; of FERGIT a random few; small sets whole."""
    if dataset.name == "fergit":
        rng = np.random.default_rng(0)
        rows = rng.choice(len(dataset), min(DRY_FERGIT, len(dataset)), replace=False)
        return dataset.take(np.sort(rows))
    if not (dataset.splits != "").any():
        return dataset
    parts = [
        np.flatnonzero(dataset.splits == split)[:DRY_SPLIT] for split in np.unique(dataset.splits)
    ]
    return dataset.take(np.sort(np.concatenate(parts)))
