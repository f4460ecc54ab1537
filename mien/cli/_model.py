"""The MODEL argument of verbs that score: a checkpoint, an ONNX file or a shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import require_extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


def samples_of(data: Path | None, name: str | None, split: str) -> tuple[Any, Any, Any]:
    """FER2013, its split, and the split's ids without a twin in what was trained or chosen on.

    The ids are None for the training split.
    """
    from mien.data import make_splits, read_for_protocol
    from mien.data.duplicates import without_twins

    dataset = read_for_protocol(data, "fer2013", name)
    splits = make_splits(dataset, "fer2013")
    role = splits.role(split)
    chosen = splits.select(dataset, role)
    seen = {"train": (), "val": ("train",), "test": ("train", "val")}[role]
    if not seen:
        return dataset, chosen, None
    return dataset, chosen, without_twins(chosen, *(splits.select(dataset, r) for r in seen))
