"""The training set of ``mien_photo``: FER2013, CK+ and the faces of muxspace's photos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from mien.data.assemble import Row, extended
from mien.data.dataset import FaceDataset
from mien.data.photos import PhotoDataset
from mien.detect.base import Detector
from mien.emotions import FER2013, Emotion
from mien.errors import DataError, ImageError
from mien.modelinfo import ModelInfo
from mien.preprocess import crop_face

#: muxspace's labellers whose photos are trained on; the photo panel has the others'.
MUXSPACE_TRAINED = ("dwdii", "302")

#: FER2013's frame of a face.
_FRAME = ModelInfo("fer2013", FER2013)


def number_of(text: str) -> int:
    """A number from 0 to 2**32 - 1 that follows from a name: divides people and photos."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def held_out_subject(subject: str) -> bool:
    """Whether a CK+ subject is the photo panel's: a third, which ``mien_photo`` never saw."""
    return number_of(f"ck{subject}") % 3 == 0


def build_photo(
    fer2013: FaceDataset,
    photos: PhotoDataset,
    ckplus: FaceDataset,
    detector: Detector,
    progress: Callable[[int], None] = lambda done: None,
) -> FaceDataset:
    """FER2013 with its splits and FER+ votes, and for training two thirds of CK+'s subjects and the
    faces of two of muxspace's labellers, cut as ``mien predict`` cuts them.

    Contempt is left out, and so are photos that cannot be read or have no face.

    Args:
        progress: called with the number of photos done.

    Raises:
        DataError: ``fer2013`` or ``ckplus`` is another dataset or not 48×48.
    """
    for given, name in ((fer2013, "fer2013"), (ckplus, "ckplus")):
        if given.name != name or given.images.shape[1:] != (_FRAME.input_size,) * 2:
            raise DataError(f"{given.where} is {given.name}; expected {name}, 48×48.")
    rows = [
        (face.id, face.group, face.emotion, face.image)
        for face in ckplus
        if face.emotion is not Emotion.CONTEMPT and not held_out_subject(face.group)
    ]
    rows += _muxspace(photos, detector, progress)
    votes = fer2013.votes
    if votes is not None:
        votes = np.concatenate([votes, np.zeros((len(rows), votes.shape[1]), np.float32)])
    source = f"{fer2013.source} + {ckplus.source} + {photos.source}"
    return extended(fer2013, rows, name="photo", source=source, split="Training", votes=votes)


def _muxspace(
    photos: PhotoDataset, detector: Detector, progress: Callable[[int], None]
) -> Iterator[Row]:
    for i, user in enumerate(photos.users):
        progress(i + 1)
        emotion = photos.emotion(i)
        if user not in MUXSPACE_TRAINED or emotion is None or emotion is Emotion.CONTEMPT:
            continue
        try:
            image = photos.image(i)
        except ImageError:
            continue
        if found := detector.detect(image):
            yield photos.ids[i], user, emotion, crop_face(image, found[0], _FRAME)
