"""``read_dataset``: take a file or folder in any published form and find out by content which."""

from __future__ import annotations

import os
from pathlib import Path

from mien.data.dataset import FaceDataset
from mien.errors import DataError


def default_data_path() -> Path:
    """The data folder: ``$MIEN_DATA``, else ``../shared/data`` beside the checkout.

    Raises:
        DataError: neither is there.
    """
    given = os.environ.get("MIEN_DATA")
    if given:
        path = Path(given)
        if not path.exists():
            raise DataError(f"MIEN_DATA is {given}, which does not exist; correct it.")
        return path
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if beside.is_dir():
        return beside
    raise DataError("No dataset was named; pass --data PATH or set MIEN_DATA.")


def read_dataset(
    path: str | os.PathLike[str], name: str | None = None, *, skip_bad: bool = False
) -> FaceDataset:
    """Read a dataset of face crops in any published form."""
    from mien.data.parquet import read_parquet

    path = Path(path)
    if path.is_dir():
        path = path / f"{name or 'fer2013'}.parquet"
    return read_parquet(path, skip_bad=skip_bad)
