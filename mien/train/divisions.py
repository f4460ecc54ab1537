"""Which images a trained network has seen, so that none is scored on them as if they were new."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mien.data.dataset import Splits
from mien.errors import RecipeError

#: In a run folder: the division that the run trained by.
SPLITS = "splits.json"


def seen_in_training(checkpoint: Path, splits: Splits, roles: tuple[str, ...]) -> int:
    """How many images of ``roles`` the run behind ``checkpoint`` trained on; 0 where it is unknown.

    Known is what lies beside the checkpoint: the run folder's ``splits.json``.

    Raises:
        DataError: that file is damaged.
    """
    path = checkpoint.parent / SPLITS
    if not path.is_file():
        return 0
    trained = Splits.load(path).ids.get("train", np.array([], dtype=np.str_))
    asked = np.concatenate([splits.ids[role] for role in roles])
    return int(np.isin(asked, trained).sum())


def refuse_seen(checkpoint: Path, splits: Splits, roles: tuple[str, ...]) -> None:
    """Raise RecipeError where a run trained on images that it would be scored or chosen on here.

    Protocols that draw by seed, and folds, give every run a division of its own.
    """
    seen = seen_in_training(checkpoint, splits, roles)
    if not seen:
        return
    by = f"protocol {splits.protocol}, seed {splits.seed}"
    by += "" if splits.fold is None else f", fold {splits.fold}"
    names = " and ".join(splits.published_name(role) for role in roles)
    raise RecipeError(
        f"{checkpoint} was trained on {seen:,} of the images that are {names} by {by}; give the "
        f"protocol, seed and fold that it was trained by ({checkpoint.parent / 'run.json'})."
    )
