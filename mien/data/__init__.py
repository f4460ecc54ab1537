"""Datasets of faces: readers for every published form, named splits, audit and conversion."""

from __future__ import annotations

from mien.data.dataset import ROLES, FaceDataset, Sample, Splits
from mien.data.duplicates import twin_free_ids
from mien.data.photos import PhotoDataset
from mien.data.readers import (
    default_data_path,
    read_dataset,
    read_for_protocol,
    read_photo_dataset,
)
from mien.data.splits import PROTOCOLS, make_splits

__all__ = [
    "PROTOCOLS",
    "ROLES",
    "FaceDataset",
    "PhotoDataset",
    "Sample",
    "Splits",
    "default_data_path",
    "make_splits",
    "read_dataset",
    "read_for_protocol",
    "read_photo_dataset",
    "twin_free_ids",
]
