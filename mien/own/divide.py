"""Own faces by role: seeded, by class, and nothing that belongs together in two of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset, Splits
from mien.data.own_faces import OwnFaces
from mien.errors import DataError

Ints = NDArray[np.int64]

#: One face in so many is kept for the test; of the others one in so many chooses.
TEST_FOLDS, VAL_FOLDS = 5, 6


def folds(labels: Ints, together: Ints, count: int, seed: int) -> Ints:
    """Number of a fold, 0..count-1, for every face: classes spread evenly, sets kept whole.

    Args:
        labels: int64 (N,). together: int64 (N,), faces that share a number share a fold.
        count: folds.
        seed: of the order in which sets of like size are dealt out.
    """
    classes = int(labels.max()) + 1
    _, index = np.unique(together, return_inverse=True)
    order = np.argsort(index, kind="stable")
    sets = np.split(order, np.flatnonzero(np.diff(index[order])) + 1)
    shuffled = np.random.default_rng([seed, 21]).permutation(len(sets))
    ranked = sorted(shuffled.tolist(), key=lambda i: -len(sets[i]))
    total = np.maximum(np.bincount(labels, minlength=classes), 1).astype(np.float64)
    held = np.zeros((count, classes))
    sizes = np.zeros(count)
    found = np.empty(len(labels), np.int64)
    for i in ranked:
        rows = sets[i]
        which, how = np.unique(labels[rows], return_counts=True)
        share = how / total[which]
        # Where the squares of the shares grow least; then the smallest fold.
        growth = (2 * held[:, which] * share).sum(axis=1) + 1e-6 * sizes
        k = int(growth.argmin())
        held[k, which] += share
        sizes[k] += len(rows)
        found[rows] = k
    return found


def _part(labels: Ints, together: Ints, count: int, seed: int) -> NDArray[np.bool_]:
    """Mask (N,) of one fold: where sets are large, the one nearest to its share of each class."""
    fold = folds(labels, together, count, seed)
    table = np.zeros((count, int(labels.max()) + 1))
    np.add.at(table, (fold, labels), 1)
    share = table / np.maximum(table.sum(axis=0), 1)
    far = np.abs(share - 1 / count).sum(axis=1).round(9)
    far[table.sum(axis=1) == 0] = np.inf  # with fewer sets than folds some are empty
    return np.asarray(fold == int(far.argmin()), np.bool_)


def unlearned(data: FaceDataset, rows: Ints | NDArray[np.bool_]) -> str:
    """The classes that none of these rows shows, quoted; "" if there is none."""
    seen = set(data.labels[rows].tolist())
    return quoted([c.value for number, c in enumerate(data.classes) if number not in seen])


def quoted(names: list[str]) -> str:
    """ "'a', 'b'": five names at most, and how many more there are."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if names[5:] else "")


def divide(own: OwnFaces, seed: int, protocol: str, val: bool) -> tuple[Splits, str]:
    """The faces by role, and what the part that is scored once is called.

    Splits that the photos came with are kept. Of two, the one that is not for training is scored;
    what chooses (``val``) is then taken from the training part.

    Args:
        val: whether a part must choose: cross-validation needs none.

    Raises:
        DataError: the given splits hold none of a class to train on, or none to score.
    """
    data = own.dataset
    given = set(data.splits.tolist()) - {""}
    role = np.array([split or "train" for split in data.splits.tolist()])
    scored = "test"
    if not given:
        role[_part(data.labels, own.together, TEST_FOLDS, seed)] = "test"
    elif not {"val", "test"} & given or not (role == "train").any():
        raise DataError(
            f"{data.where} has the split {', '.join(sorted(given))} alone; give two of train, val "
            "and test, or none."
        )
    elif absent := unlearned(data, role == "train"):
        raise DataError(
            f"{data.where} has no face to learn {absent} from, only to score; add photos to "
            "train/, or correct the folder's name."
        )
    elif "test" not in given:
        scored, role[role == "val"] = "val", "test"
    if val and not (role == "val").any():
        rows = np.flatnonzero(role == "train")
        inner = _part(data.labels[rows], own.together[rows], VAL_FOLDS, seed + 1)
        role[rows[inner]] = "val"
    train = set(data.labels[role == "train"].tolist())
    if len(train) < 2 or not (role == "test").any():
        raise DataError(
            f"{data.where}: {len(data):,} faces in {len(np.unique(own.together)):,} separate sets "
            "are too few to learn from some and to score others; add photos (or give train/ and "
            "test/ folders)."
        )
    ids = {name: data.ids[role == name] for name in ("train", "val", "test")}
    return Splits(protocol, seed, ids), scored
