"""The one vocabulary of data: FaceDataset (arrays), Sample (one row), Splits (ids by role)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import Label
from mien.errors import DataError

ROLES = ("train", "val", "test")
#: What publishers, hubs and folders call a split, in lower case -> its role; in the order in which
#: splits are seen.
ROLE_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("publictest", "validation", "valid", "val"), "val"),
    **dict.fromkeys(("privatetest", "test", "testing"), "test"),
}
#: FER2013's published splits and what they serve for.
FER2013_ROLES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
#: Protocols by which own photos, and own crops, are divided: ``mien finetune``.
PROTOCOLS_OF_OWN = ("own-photos", "own-faces")


def official_split(split: str) -> str:
    """What FER2013's publisher calls a split that hubs rename; any other as it is."""
    role = ROLE_OF.get(split.lower())
    return next((name for name, of in FER2013_ROLES.items() if of == role), split)


def fingerprint(face: NDArray[np.uint8]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a face's pixels."""
    return hashlib.sha256(face.tobytes()).hexdigest()[:12]


def sha256_of_ids(ids: NDArray[np.str_]) -> str:
    """SHA-256 of the sorted ids."""
    return hashlib.sha256("\n".join(sorted(ids.tolist())).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled face: ``image`` is uint8 (H, W), 0..255."""

    id: str
    image: NDArray[np.uint8]
    emotion: Label
    split: str = ""
    group: str = ""
    votes: NDArray[np.float32] | None = None


#: The attributes of a FaceDataset that hold one entry a sample, where they hold any.
_COLUMNS = ("images", "labels", "ids", "splits", "groups", "votes", "lossless")


@dataclass(frozen=True)
class FaceDataset:
    """Grey face crops of one size, wholly in memory.

    Attributes:
        images: uint8 (N, H, W), 0..255.
        labels: int64 (N,), indices into ``classes``.
        ids: str (N,), unique and stable across forms of the same dataset ("fer2013:00012").
        classes: the label vocabulary, in output order.
        name: "fer2013", "ckplus", "fergit", "faces"...
        splits: str (N,), the publisher's own split ("Training", "PublicTest", "PrivateTest") or "".
        groups: str (N,), subject or other leakage group, or "".
        votes: float32 (N, 10), FER+ votes in FERPLUS_COLUMNS order, or None.
        source: the path it was read from.
        sha256: SHA-256 of the images, labels and ids as read: the same in every form of the data.
        notes: what the reader left out on request ("row 17: ..."), one sentence each.
        lossless: bool (N,), False where the pixels went through JPEG; None when not known.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    classes: tuple[Label, ...]
    name: str
    splits: NDArray[np.str_]
    groups: NDArray[np.str_]
    votes: NDArray[np.float32] | None = None
    source: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()
    lossless: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids_sha256(self) -> str:
        """SHA-256 of the sorted ids: which images these are, in whatever order."""
        return sha256_of_ids(self.ids)

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each class by its name, in output order; classes without one too."""
        found = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return {c.value: n for c, n in zip(self.classes, found, strict=True)}

    @property
    def sources(self) -> NDArray[np.str_]:
        """Str (N,): the dataset that each image comes from, which its id begins with."""
        return np.char.partition(self.ids, ":")[:, 0]

    @property
    def where(self) -> str:
        """What messages call it: its path, or else its name."""
        return self.source or self.name

    def __getitem__(self, i: int) -> Sample:
        return Sample(
            id=str(self.ids[i]),
            image=self.images[i],
            emotion=self.classes[int(self.labels[i])],
            split=str(self.splits[i]),
            group=str(self.groups[i]),
            votes=None if self.votes is None else self.votes[i],
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def take(self, indices: NDArray[np.integer[Any]]) -> FaceDataset:
        """The rows at ``indices``, in that order, as a dataset of their own, without the notes."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        taken: dict[str, Any] = {n: None if c is None else c[indices] for n, c in columns.items()}
        return replace(self, notes=(), **taken)

    def indices_of(self, ids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Row numbers of ``ids``, in that order. Raises DataError when one is not here."""
        where = {key: i for i, key in enumerate(self.ids.tolist())}
        try:
            return np.array([where[key] for key in ids.tolist()], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"{self.where}: no sample {error.args[0]!r}.") from None


@dataclass(frozen=True)
class Splits:
    """Which sample ids serve for what, under a named protocol.

    Attributes:
        protocol: e.g. "fer2013".
        seed: of the shuffle; 0 where nothing is drawn.
        ids: role ("train", "val", "test") -> sample ids; a role may be empty.
        fold: number of the fold for cross-validation protocols, else None.
        aliases: publisher's split name -> role ("PublicTest" -> "val"), so both can be asked for.
    """

    protocol: str
    seed: int
    ids: Mapping[str, NDArray[np.str_]]
    fold: int | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    def role(self, name: str) -> str:
        """Resolve "PublicTest" or "val" to a role. Raises DataError for an unknown name."""
        role = self.aliases.get(name, name)
        if role not in self.ids:
            known = ", ".join([*self.ids, *self.aliases])
            raise DataError(f"Protocol {self.protocol!r} has no split {name!r}; known: {known}.")
        return role

    def published_name(self, role: str) -> str:
        """The publisher's name of a role's split ("PublicTest" for "val"); else the role."""
        return next((alias for alias, r in self.aliases.items() if r == role), role)

    def select(self, dataset: FaceDataset, name: str) -> FaceDataset:
        """The samples of split ``name`` ("train", "PublicTest", ...)."""
        return dataset.take(dataset.indices_of(self.ids[self.role(name)]))

    def to_json(self) -> str:
        return json.dumps(
            {
                "protocol": self.protocol,
                "seed": self.seed,
                "fold": self.fold,
                "aliases": dict(self.aliases),
                "ids": {role: ids.tolist() for role, ids in self.ids.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Splits:
        record = json.loads(text)
        return cls(
            protocol=record["protocol"],
            seed=record["seed"],
            fold=record["fold"],
            aliases=record["aliases"],
            ids={role: np.array(ids, dtype=np.str_) for role, ids in record["ids"].items()},
        )

    @classmethod
    def load(cls, path: Path) -> Splits:
        try:
            return cls.from_json(path.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a saved split file: {error}") from error
