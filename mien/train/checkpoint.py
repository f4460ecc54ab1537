"""Checkpoints as classifiers: the torch twin of ``mien.classify.Classifier``."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien._version import __version__
from mien.emotions import Emotion
from mien.errors import ModelError
from mien.modelinfo import ModelInfo
from mien.models import count_multiply_adds, count_parameters, create_model
from mien.models.blocks import fuse
from mien.preprocess import normalize, probabilities
from mien.train.recipe import Recipe


@dataclass
class TorchClassifier:
    """A trained network with its ModelInfo; the same calls as the ONNX classifier's.

    Attributes:
        model: the network in eval mode on ``device``, float32 weights.
        info: what it is; ``temperature`` is 1 until export fits it.
        path: the checkpoint; the ids that it was trained on lie beside it.
    """

    model: nn.Module
    info: ModelInfo
    device: str = "cpu"
    path: Path | None = None

    def logits(self, faces: NDArray[np.uint8], batch_size: int = 256) -> NDArray[np.float32]:
        """uint8 (N, S, S) -> float32 (N, K)."""
        parts = [np.empty((0, len(self.info.labels)), np.float32)]
        with torch.inference_mode():
            for k in range(0, len(faces), batch_size):
                x = torch.from_numpy(normalize(faces[k : k + batch_size], self.info))
                x = x.contiguous(memory_format=torch.channels_last).to(self.device)
                parts.append(self.model(x).float().cpu().numpy())
        return np.concatenate(parts)

    def predict_proba(
        self, faces: NDArray[np.uint8], batch_size: int = 256, flip: bool = False
    ) -> NDArray[np.float32]:
        """Probabilities, float32 (N, K); ``flip`` averages a face and its mirror image."""
        logits = partial(self.logits, batch_size=batch_size)
        return probabilities(logits, faces, self.info.temperature, flip)


def load_checkpoint(path: str | Path, device: str = "cpu") -> TorchClassifier:
    """Load ``best.ckpt`` or ``last.ckpt`` of a run: the averaged weights where the run has them.

    Raises:
        ModelError: the file is missing, damaged or not a mien checkpoint.
    """
    record, state = read_checkpoint(path)
    recipe = Recipe.from_dict(record["recipe"])
    classes = tuple(Emotion(c) for c in record["classes"])
    model = create_model(recipe.model, num_classes=len(classes), **recipe.model_args)
    prefix = "averaged." if any(k.startswith("averaged.") for k in state) else "model."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    try:
        model.load_state_dict(weights)
    except RuntimeError:  # torch lists every weight, on many lines
        raise ModelError(
            f"{path} does not fit model {recipe.model!r}: its weights have other names or shapes; "
            "it was made by another version, train it again."
        ) from None
    model = fuse(model.eval()).to(device)
    shape = (1, 48, 48)
    data = record.get("data", {})
    info = ModelInfo(
        name=recipe.name,
        labels=classes,
        mean=record["mean"],
        std=record["std"],
        architecture=recipe.model,
        recipe=recipe.name,
        seed=record["seed"],
        training_data=data.get("name", ""),
        protocol=data.get("protocol", ""),
        parameters=count_parameters(model),
        multiply_adds=count_multiply_adds(model, shape),
        created_with=f"mien {__version__}",
    )
    return TorchClassifier(model, info, device, Path(path))


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The mien record and the weights of a checkpoint. Raises ModelError as load_checkpoint."""
    if not Path(path).is_file():
        raise ModelError(f"No checkpoint at {path}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        return checkpoint["mien"], checkpoint["state_dict"]
    except KeyError:
        raise ModelError(f"{path} is not a mien checkpoint: it has no 'mien' record.") from None
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read as a checkpoint: {error}") from None
    except Exception as error:  # torch raises pickle.UnpicklingError with a page of advice
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} cannot be read as a checkpoint: {first}") from None
