"""The samples that a model is scored on: a split of a dataset, which it has not learned from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import (
    FER2013_ROLES,
    PROTOCOLS_OF_OWN,
    FaceDataset,
    Splits,
    fingerprint,
    sha256_of_ids,
)
from mien.data.duplicates import without_twins
from mien.data.own import list_photos
from mien.data.own_faces import Findings, OwnFaces, read_own
from mien.data.readers import default_data_path, read_dataset, read_for_protocol
from mien.data.splits import (
    PROTOCOLS,
    make_splits,
    refuse_trained_on,
    splits_beside,
)
from mien.emotions import parse_emotion
from mien.errors import DataError
from mien.pipeline import Analyzer

#: What was trained or chosen on before a role is scored.
_BEFORE = {"train": (), "val": ("train",), "test": ("train", "val"), "all": ()}
#: Every sample of a dataset without splits, or whatever its splits are.
ALL = "all"
#: Images of one size, square and of at most so many pixels a side, are faces already cut out.
MOST_CROP = 256


@dataclass(frozen=True)
class Samples:
    """A split to score on.

    Attributes:
        dataset: the whole dataset.
        splits: of its protocol, which also gave the labels.
        role: "train", "val", "test" or "all".
        left_out: faces that the model learned from.
        findings: what was found in one's own photos; None for a dataset of faces.
    """

    dataset: FaceDataset
    splits: Splits
    role: str
    left_out: int = 0
    findings: Findings | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Which photos are not scored, and why, a sentence a reason."""
        lines = self.findings.left_out_lines() if self.findings else []
        return tuple(f"Photos {line}." for line in lines)

    @cached_property
    def chosen(self) -> FaceDataset:
        """The samples of the split."""
        return self.splits.select(self.dataset, self.role)

    @property
    def split(self) -> str:
        """The publisher's name of the split, or for one's own data the role."""
        return self.splits.published_name(self.role)

    @cached_property
    def twin_free(self) -> NDArray[np.str_] | None:
        """The ids without an exact duplicate in what was trained or chosen on; None for "train"."""
        before = _BEFORE[self.role]
        if not before:
            return None
        return without_twins(self.chosen, *(self.splits.select(self.dataset, r) for r in before))


def recorded_as(data: str, split: str) -> str:
    """What a model file's scores on a split are called: the publisher's name says which data it is
    of, any other is told with the data's."""
    return split if split in FER2013_ROLES else f"{data}: {split}"


def unseen(classifier: Any, dataset: FaceDataset) -> FaceDataset:
    """The faces that a model of own classes neither learned from nor was chosen on.

    Raises:
        DataError: it has seen all of them.
    """
    learned = frozenset(classifier.info.learned)
    new = np.array([fingerprint(face) not in learned for face in dataset.images], np.bool_)
    if not new.any():
        raise DataError(
            f"{dataset.where}: {classifier.info.name} learned from all of its {len(dataset):,} "
            "faces; give photos that it has not seen."
        )
    return dataset.take(np.flatnonzero(new))


def read_photos(
    classifier: Any,
    source: Path,
    *,
    faces: bool = False,
    group_by: str | None = None,
    least_classes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> OwnFaces:
    """Anybody's labelled photos, whose faces are cut as ``classifier`` takes them.

    A class that the model calls otherwise ("happiness") gets the model's name.

    Args:
        classifier: a loaded ONNX file.
        source, group_by, least_classes: see :func:`mien.data.own.list_photos`.
        faces: the photos already are faces.
        progress: called with (photos done, photos in all).

    Raises:
        DataError: the photos cannot be used.
    """
    listing = list_photos(source, group_by, least_classes)
    names = {photo.label: photo.label for photo in listing.photos}
    for name in names:
        with suppress(DataError):
            if name not in classifier.info.labels and (e := parse_emotion(name)):
                names[name] = e.value if e in classifier.info.labels else name
    photos = tuple(replace(photo, label=names[photo.label]) for photo in listing.photos)
    listing, analyzer = replace(listing, photos=photos), Analyzer(classifier.path)
    return read_own(
        listing, source, analyzer, faces=faces, least_classes=least_classes, progress=progress
    )


def _own_samples(classifier: Any, source: Path, split: str) -> Samples:
    """Photos for a model of own classes: what it has not seen, or for "train" what it has."""
    protocol = classifier.info.protocol
    faces = protocol == PROTOCOLS_OF_OWN[1]
    own = read_photos(classifier, source, faces=faces, least_classes=1)
    dataset = own.dataset
    test = unseen(classifier, dataset).ids
    ids = {"train": np.setdiff1d(dataset.ids, test), "val": test[:0], "test": test, ALL: test}
    role = split if split in ("train", ALL) else "test"
    splits = Splits(protocol, classifier.info.seed or 0, ids)
    left_out = 0 if role == "train" else len(ids["train"])
    return Samples(dataset, splits, role, left_out, own.findings)


def _whole(classifier: Any, source: Path, name: str | None) -> Samples:
    """All of a dataset of faces, or of a folder or table of photos."""
    findings = None
    try:
        dataset = read_dataset(source, name)
        side = dataset.images.shape[1]
        crops = dataset.images.shape[2] == side <= MOST_CROP
        refusal = None
    except DataError as error:
        crops, refusal = False, error
    if not crops:
        try:
            list_photos(source, least_classes=1)
        except DataError as error:  # nor photos: why it is no dataset says more
            raise refusal or error from None
        own = read_photos(classifier, source, least_classes=1)
        dataset, findings = own.dataset, own.findings
    none = dict.fromkeys(("train", "val", "test"), dataset.ids[:0])
    return Samples(dataset, Splits("", 0, {**none, ALL: dataset.ids}), ALL, findings=findings)


def samples_of(
    classifier: Any,
    data: Path | None,
    name: str | None,
    split: str,
    *,
    protocol: str | None = None,
    seed: int | None = None,
    fold: int | None = None,
) -> Samples:
    """The split to score ``classifier`` on.

    Args:
        classifier: a loaded model.
        data, name: the dataset, see :func:`mien.data.read_for_protocol`.
        split: "PublicTest", "test", …; the training split may be asked for by name; "all" is
            every sample, whatever its split: a folder of faces or photos needs none then.
        protocol, seed, fold: see :func:`mien.data.make_splits`. None are those that the model was
            trained by, or FER2013's official splits.

    Raises:
        DataError: the data cannot be read, or the model may have been trained on the split.
    """
    if classifier.info.protocol in PROTOCOLS_OF_OWN:
        return _own_samples(classifier, data or default_data_path(), split)
    if split == ALL:
        samples = _whole(classifier, data or default_data_path(), name)
        refuse_trained_on(classifier, samples.dataset)
        return samples
    own, beside = classifier.info.protocol, splits_beside(getattr(classifier, "path", None))
    if protocol is None:  # the folder release trains on what FER2013 does, and has no val
        protocol = own if own in PROTOCOLS and own != "fer2013-folder" else "fer2013"
    seeds = [seed or 0]
    if seed is None and protocol == own:  # an ensemble's members share the draw of seed 0
        seeds = [beside.seed] if beside else [classifier.info.seed or 0, 0]
    if fold is None and protocol == own and beside:
        fold = beside.fold
    dataset = read_for_protocol(data, protocol, name)
    drawn = [make_splits(dataset, protocol, seed=s, fold=fold) for s in dict.fromkeys(seeds)]
    learned = classifier.info.train_ids_sha256
    splits = next((s for s in drawn if sha256_of_ids(s.ids["train"]) == learned), drawn[0])
    samples = Samples(dataset, splits, splits.role(split))
    if samples.role != "train":
        refuse_trained_on(classifier, samples.chosen, splits)
    return samples
