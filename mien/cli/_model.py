"""The MODEL argument of verbs that score: a checkpoint, an ONNX file or a shipped model."""

from __future__ import annotations

from typing import Any

from mien.errors import require_extra


def load_model(model: str) -> Any:
    """Anything with ``info`` and ``predict_proba``; torch is imported for a checkpoint only."""
    if model.endswith(".ckpt"):
        require_extra("train", ("torch",), "A checkpoint")
        from mien.train import load_checkpoint

        return load_checkpoint(model)
    from mien.classify import load_classifier

    return load_classifier(model)
