"""The MODEL argument of verbs that score: a checkpoint, an ONNX file or a shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mien.errors import DataError, require_extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.data.dataset import FaceDataset, Splits


def load_model(model: str) -> Any:
    """Anything with ``info`` and ``predict_proba``; torch is imported for a checkpoint only."""
    if model.endswith(".ckpt"):
        require_extra("train", ("torch", "lightning"), "A checkpoint")
        from mien.train import load_checkpoint

        return load_checkpoint(model)
    from mien.classify import load_classifier

    return load_classifier(model)


def facts_of(model: str, classifier: Any) -> dict[str, Any]:
    """What a report says of the model, with its file's SHA-256."""
    from mien._system import file_sha256
    from mien.evaluate import describe_model

    path = Path(getattr(classifier, "path", model))
    return {**describe_model(classifier.info), "sha256": file_sha256(path)}


def on_48(classifier: Any) -> Any:
    """``predict_proba`` for 48×48 faces, enlarged where the network takes another size."""
    info = classifier.info
    if info.input_size == 48:
        return classifier.predict_proba
    import numpy as np

    from mien.preprocess import whole_face

    def predict(faces: NDArray[np.uint8]) -> Any:
        return classifier.predict_proba(np.stack([whole_face(face, info) for face in faces]))

    return predict


#: Protocols that train on FER2013's Training and on nothing else.
_OFFICIAL = frozenset({"fer2013", "fer2013-folder", "ferplus-majority"})


def refuse_trained_on(
    model: str, classifier: Any, splits: Splits, role: str, dataset: FaceDataset
) -> None:
    """Raise DataError where ``model`` may have been trained on the split it is to be scored on.

    A checkpoint is held to the ids beside it; a file, whose training ids are not known, to the
    protocol and seed of its record.
    """
    if role == "train":
        return
    if model.endswith(".ckpt"):
        from mien.train.divisions import refuse_seen

        refuse_seen(Path(model), splits, (role,))
        return
    info = classifier.info
    if not info.protocol or {info.protocol, splits.protocol} <= _OFFICIAL:
        return
    same = (info.protocol, info.seed or 0) == (splits.protocol, splits.seed)
    shares = info.training_data.startswith(dataset.name)
    # FERGIT holds all of FER2013.
    shares = shares or (info.training_data.startswith("fergit") and dataset.name == "fer2013")
    if shares and (not same or splits.fold is not None):
        raise DataError(
            f"{model} was trained by protocol {info.protocol}, seed {info.seed}: images of this "
            f"{splits.published_name(role)} may be among those it learned from. Give that protocol "
            "and seed, or score its checkpoint beside its splits.json."
        )


def clean_ids(dataset: FaceDataset, splits: Splits, role: str) -> NDArray[np.str_] | None:
    """The ids of a role without a twin in what was trained or chosen on; None for "train"."""
    from mien.data.duplicates import without_twins

    seen = {"train": (), "val": ("train",), "test": ("train", "val")}[role]
    if not seen:
        return None
    return without_twins(splits.select(dataset, role), *(splits.select(dataset, r) for r in seen))


def samples_of(
    model: str, classifier: Any, data: Path | None, name: str | None, split: str
) -> Samples:
    """FER2013's split ``split`` ("PublicTest", "test", …) to score a model on.

    A model of FER+'s majority labels is held to those, any other to FER2013's own.

    Raises:
        DataError: the data cannot be read, or the model may have been trained on the split.
    """
    from mien.data import make_splits, read_for_protocol

    protocol = classifier.info.protocol
    protocol = protocol if protocol == "ferplus-majority" else "fer2013"
    dataset = read_for_protocol(data, protocol, name)
    splits = make_splits(dataset, protocol)
    role = splits.role(split)
    refuse_trained_on(model, classifier, splits, role, dataset)
    chosen = splits.select(dataset, role)
    clean = clean_ids(dataset, splits, role)
    return Samples(dataset, chosen, clean, splits.published_name(role), protocol)


class Samples(NamedTuple):
    """FER2013, a split of it, the split's ids without a twin in what was trained or chosen on
    (None for the training split), the publisher's name of the split, and the protocol that gave
    the labels."""

    dataset: Any
    chosen: Any
    twin_free: Any
    split: str
    protocol: str
