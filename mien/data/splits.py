"""Named protocols: which samples train, which choose, which test. Seeded, and saved by sample id."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset, Splits
from mien.errors import DataError

#: FER2013's published splits and what they serve for.
FER2013_ROLES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}


def _fer2013(dataset: FaceDataset, seed: int, fold: int | None) -> Splits:
    """FER2013's official splits: Training / PublicTest / PrivateTest."""
    _need_publisher_splits(dataset, "fer2013", tuple(FER2013_ROLES))
    return Splits(
        protocol="fer2013",
        seed=0,
        ids={r: dataset.ids[dataset.splits == s] for s, r in FER2013_ROLES.items()},
        aliases=FER2013_ROLES,
    )


def _need_publisher_splits(dataset: FaceDataset, protocol: str, needed: tuple[str, ...]) -> None:
    present = set(dataset.splits.tolist())
    missing = [s for s in needed if s not in present]
    if missing:
        raise DataError(
            f"Protocol {protocol!r} needs the publisher's split {missing[0]!r}, and "
            f"{dataset.source or dataset.name} has {', '.join(sorted(present - {''})) or 'none'}; "
            "use 'random-80-20' or a dataset with official splits."
        )


_Maker = Callable[[FaceDataset, int, int | None], Splits]

#: Every named protocol; the maker's docstring says what it is.
PROTOCOLS: dict[str, _Maker] = {"fer2013": _fer2013}


def make_splits(
    dataset: FaceDataset, protocol: str, seed: int = 0, fold: int | None = None
) -> Splits:
    """Divide ``dataset`` under a named protocol.

    Args:
        protocol: a key of :data:`PROTOCOLS`.
        seed: of the shuffle, for protocols that draw.
        fold: number of the test fold, for cross-validation protocols.

    Raises:
        DataError: unknown protocol, or one that does not fit the dataset.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"Unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[protocol](dataset, seed, fold)


def _ids(dataset: FaceDataset, indices: NDArray[np.int64]) -> NDArray[np.str_]:
    return dataset.ids[np.sort(indices)]
