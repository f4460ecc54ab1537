"""From one's own photos to faces: found, levelled and cut exactly as ``mien predict`` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.classify import available_cores
from mien.data.assemble import assemble
from mien.data.dataset import FaceDataset
from mien.data.duplicates import exact_groups, members_by_group, near_pairs
from mien.data.own import Listing, Photo
from mien.emotions import to_labels
from mien.errors import DataError, MienError
from mien.pipeline import Analyzer
from mien.results import Box, Quality
from mien.text import printable
from mien.track import iou

NO_FACE = ("no face found", "no face found in its box")
#: Share of a table's box that a found face must cover, and the other way round, to be the one.
OVERLAP = 0.3


@dataclass(frozen=True)
class Findings:
    """What was found in the photos, before anything is learned.

    Attributes:
        photos: that were listed. faces: that were found and cut, one a photo.
        classes: name -> faces.
        empty: classes without a photo.
        left_out: reason -> names.
        several: photos with several faces, of which the largest was taken.
        exact, near: faces that are byte-identical to another one, and pairs that show the same
            image.
        conflicts: groups of identical faces in different classes, by id.
        groups: persons or videos; 0 where none are known.
        ungrouped: where some are known, the faces that have none, by id.
        shared: groups, or sets of like faces, that lie in two of the given splits.
        unread: photos and rows that could not be read.
    """

    photos: int
    faces: int
    classes: dict[str, int]
    empty: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    several: int = 0
    exact: int = 0
    near: int = 0
    conflicts: tuple[tuple[str, ...], ...] = ()
    groups: int = 0
    ungrouped: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    unread: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def left_out_lines(self) -> list[str]:
        """What was left out, a line a reason, the commonest first."""
        return [
            f"left out, {reason}: {len(names):,} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
            for reason, names in sorted(self.left_out.items(), key=lambda item: -len(item[1]))
        ]


@dataclass(frozen=True)
class OwnFaces:
    """The faces with what was found.

    Attributes:
        dataset: uint8 (N, S, S); ``splits`` holds "train", "val", "test" or "".
        together: int64 (N,), faces that share a number must lie in one split: of one person or
            video, or showing the same image.
        qualities: of each face's photo.
    """

    dataset: FaceDataset
    findings: Findings
    together: NDArray[np.int64] = field(repr=False)
    qualities: tuple[Quality, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cut:
    """A face of a photo: its crop, its box, its quality, and how many faces the photo has."""

    photo: Photo
    crop: NDArray[np.uint8]
    box: Box
    quality: Quality
    number: int
    of: int


def cut_photo(
    photo: Photo, analyzer: Analyzer, faces: bool = False, every: bool = False
) -> list[Cut]:
    """The face that a photo's label is of; or every one.

    Args:
        faces: the photo already is one face.
        every: all faces, largest first.

    Raises:
        ImageError: the photo cannot be read.
    """
    found = analyzer.find(photo.source, None, faces, source=photo.name)
    boxes = [detection.box for detection in found.detections]
    chosen = list(range(len(boxes)))
    if photo.box is not None and chosen and not faces:
        shares = [iou(box, photo.box) for box in boxes]
        if max(shares) < OVERLAP:
            return []
        chosen = [shares.index(max(shares))]
    if not every:
        chosen = chosen[:1]
    return [
        Cut(photo, found.crops[i], boxes[i], found.qualities[i], i + 1, len(boxes)) for i in chosen
    ]


def cut_all(
    photos: tuple[Photo, ...],
    analyzer: Analyzer,
    *,
    faces: bool = False,
    every: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Photo, list[Cut] | str]]:
    """Each photo in order with its faces, or the reason why there is none.

    Args:
        progress: called with (photos done, photos in all).
    """

    def look(photo: Photo) -> list[Cut] | str:
        try:
            cuts = cut_photo(photo, analyzer, faces, every)
        except MienError as error:
            return str(error).removeprefix(f"{photo.name} ").rstrip(".")
        return cuts or NO_FACE[photo.box is not None]

    workers = available_cores()
    with ThreadPoolExecutor(workers) as threads:
        step = 64 * workers  # bounded: crops are small, but a table may be long
        for start in range(0, len(photos), step):
            part = photos[start : start + step]
            for done, (photo, cuts) in enumerate(
                zip(part, threads.map(look, part), strict=True), start + 1
            ):
                if progress is not None:
                    progress(done, len(photos))
                yield photo, cuts


def read_own(
    listing: Listing,
    source: Path,
    analyzer: Analyzer,
    *,
    faces: bool = False,
    least_classes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> OwnFaces:
    """Read the listed photos and cut the face out of each.

    Args:
        analyzer: finds the faces and says how a crop is framed.
        faces: the photos already are faces.
        least_classes: that must have a face.
        progress: called with (photos done, photos in all).

    Raises:
        DataError: fewer than ``least_classes`` have a face.
    """
    kept: list[Cut] = []
    left: dict[str, list[str]] = {}
    for name, reason in listing.left_out:
        left.setdefault(reason, []).append(name)
    for photo, cuts in cut_all(listing.photos, analyzer, faces=faces, progress=progress):
        if isinstance(cuts, str):
            left.setdefault(cuts, []).append(photo.name)
        else:
            kept += cuts
    counts = Counter(cut.photo.label for cut in kept)
    if len(counts) < least_classes:
        gone = sum(map(len, left.values()))
        raise DataError(
            f"{source}: {len(counts)} class has a face ({gone:,} photos left out, most: "
            f"{max(left, key=lambda r: len(left[r])) if left else 'none'}); "
            f"{('one is', 'two are')[least_classes - 1]} needed."
        )
    names = sorted(counts)
    labels = to_labels(names)
    dataset = assemble(
        images=[cut.crop for cut in kept],
        emotions=[labels[names.index(cut.photo.label)] for cut in kept],
        ids=[cut.photo.name for cut in kept],
        name=printable(source.resolve().stem if source.is_file() else source.resolve().name),
        source=source,
        splits=[cut.photo.split for cut in kept],
        groups=[cut.photo.group for cut in kept],
        classes=labels,
    )
    lost = tuple(sorted({photo.label for photo in listing.photos} - set(names)))
    return _examined(dataset, kept, listing, (*listing.empty, *lost), left)


def _examined(
    dataset: FaceDataset,
    kept: list[Cut],
    listing: Listing,
    empty: tuple[str, ...],
    left: dict[str, list[str]],
) -> OwnFaces:
    """Duplicates, conflicts and what must stay together."""
    exact = exact_groups(dataset.images)
    pairs, _ = near_pairs(dataset.images)
    members = members_by_group(exact)
    ids, groups = dataset.ids, dataset.groups
    together = _joined(exact, pairs, groups)
    conflicts = [rows for rows in members.values() if len(set(dataset.labels[rows].tolist())) > 1]
    shared = [
        rows for rows in members_by_group(together).values() if len(set(dataset.splits[rows])) > 1
    ]
    findings = Findings(
        photos=len(listing.photos),
        faces=len(dataset),
        classes=dataset.counts,
        empty=empty,
        left_out={reason: tuple(names) for reason, names in left.items()},
        several=sum(cut.of > 1 and cut.photo.box is None for cut in kept),
        exact=len(dataset) - len(np.unique(exact)),
        near=len(pairs),
        conflicts=tuple(tuple(ids[rows].tolist()) for rows in conflicts),
        groups=len(set(groups.tolist()) - {""}),
        ungrouped=tuple(ids[groups == ""].tolist()) if groups.any() else (),
        shared=tuple(str(groups[rows[0]] or ids[rows[0]]) for rows in shared),
        unread=len(listing.photos)
        - len(kept)
        - sum(len(left.get(reason, ())) for reason in NO_FACE)
        + listing.unread,
    )
    return OwnFaces(dataset, findings, together, tuple(cut.quality for cut in kept))


def _joined(
    exact: NDArray[np.int64], pairs: NDArray[np.int64], groups: NDArray[np.str_]
) -> NDArray[np.int64]:
    """Union of what is identical, near, or of one group; int64 (N,)."""
    parent = exact.tolist()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    joins = [(int(i), int(j)) for i, j in pairs]
    for i, group in enumerate(groups.tolist()):
        if group:
            joins.append((first.setdefault(group, i), i))
    for i, j in joins:
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    return np.array([root(i) for i in range(len(parent))], dtype=np.int64)
