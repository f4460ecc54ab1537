"""What is known of the real data, and the real files in every form."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.data import FaceDataset, make_splits, read_dataset, read_photo_dataset, twin_free_ids
from mien.data.audit import audit

pytestmark = pytest.mark.data


def test_audit_finds_the_known_figures(fer2013: FaceDataset) -> None:
    found = audit(fer2013)
    assert list(found.counts["Training"].values()) == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert list(found.counts["PublicTest"].values()) == [467, 56, 496, 895, 653, 415, 607]
    assert list(found.counts["PrivateTest"].values()) == [491, 55, 528, 879, 594, 416, 626]
    # 1,851 byte-identical here; two more pairs were so until one of each was published as JPEG.
    assert (found.exact_copies, found.byte_copies) == (1853, 1851)
    assert found.twins["PublicTest"]["Training"] == 280
    assert found.twins["PrivateTest"]["Training"] == 288
    assert found.twins["PrivateTest"]["any"] == 314
    assert found.twin_free["PrivateTest"] == 3275
    assert len(found.conflicts) == 57
    assert len(found.constant) == 13
    assert found.not_a_face is not None
    assert len(found.not_a_face) == 177
    assert found.ferplus_agreement is not None
    assert round(found.ferplus_agreement["PrivateTest"]["rate"], 2) == 0.63
    assert 700 < len(found.near_pairs) < 1000


def test_twin_free_private_test(fer2013: FaceDataset) -> None:
    ids = twin_free_ids(fer2013)
    assert len(ids) == 3275
    assert set(ids) <= set(make_splits(fer2013, "fer2013").ids["test"])


@pytest.mark.parametrize(
    ("protocol", "sizes"),
    [
        ("fer2013", (28709, 3589, 3589)),
        ("fer2013-folder", (28709, 0, 7178)),
        ("random-80-20", (28709, 0, 7178)),
        ("balanced", (3063, 0, 766)),
    ],
)
def test_protocol_sizes(fer2013: FaceDataset, protocol: str, sizes: tuple[int, ...]) -> None:
    made = make_splits(fer2013, protocol)
    assert tuple(len(made.ids[r]) for r in ("train", "val", "test")) == sizes


def test_ckplus_and_muxspace(data_dir: Path) -> None:
    ck = read_dataset(data_dir, "ckplus")
    assert (len(ck), len(set(ck.groups.tolist()))) == (981, 118)
    assert len({i[:-9] for i in ck.ids.tolist()}) == 327
    photos = read_photo_dataset(data_dir)
    assert len(photos) == 13690
    assert sum(label in ("neutral", "happiness") for label in photos.labels) / 13690 > 0.9
    assert photos.image(0).ndim == 3
