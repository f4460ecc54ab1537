"""Checkpoints as classifiers: the torch counterpart of ``mien.classify.Classifier``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien._version import __version__
from mien.atomic import open_atomic
from mien.emotions import to_label
from mien.errors import ModelError, OutputError, RecipeError, first_line
from mien.modelinfo import ModelInfo, spread_prior
from mien.models import count_multiply_adds, count_parameters, create_model
from mien.models.blocks import fuse
from mien.preprocess import normalize, probabilities
from mien.train.learner import Learner
from mien.train.loop import State
from mien.train.recipe import Recipe

#: In a checkpoint that can be gone on with.
_RESUME = "resume"


@dataclass
class TorchClassifier:
    """A trained network with its ModelInfo; the same calls as the ONNX classifier's.

    Attributes:
        model: the network in eval mode on ``device``, float32 weights.
        info: what it is; ``temperature`` is 1 until export fits it.
        path: the checkpoint; the ids that it was trained on lie beside it.
        degraded: share of degraded images that it was trained on (``augment.degraded``).
    """

    model: nn.Module
    info: ModelInfo
    device: str = "cpu"
    path: Path | None = None
    degraded: float = 0.0

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
    try:
        recipe = Recipe.from_dict(record["recipe"])
        classes = tuple(to_label(c) for c in record["classes"])
        mean, std, seed = float(record["mean"]), float(record["std"]), int(record["seed"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has a damaged record ({first_line(error)}).") from None
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
        mean=mean,
        std=std,
        architecture=recipe.model,
        recipe=recipe.name,
        seed=seed,
        training_data=data.get("name", ""),
        protocol=data.get("protocol", ""),
        train_ids_sha256=data.get("train_ids_sha256", ""),
        prior=spread_prior(recipe.loss.prior, classes) if recipe.loss.logit_adjustment else {},
        parameters=count_parameters(model),
        multiply_adds=count_multiply_adds(model, shape),
        created_with=f"mien {__version__}",
    )
    return TorchClassifier(model, info, device, Path(path), recipe.augment.degraded)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The mien record and the weights of a checkpoint. Raises ModelError as load_checkpoint."""
    checkpoint = _load(Path(path))
    try:
        return checkpoint["mien"], checkpoint["state_dict"]
    except (KeyError, TypeError):
        raise ModelError(f"{path} is not a mien checkpoint: it has no 'mien' record.") from None


def _load(path: Path) -> Any:
    """What is in a checkpoint: tensors and plain values; nothing in it is ever executed."""
    if not path.is_file():
        raise ModelError(f"No checkpoint at {path}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of zip, pickle, torch and the system; some with a page of advice
        raise ModelError(f"{path} cannot be read as a checkpoint: {first_line(error)}.") from None


def save_checkpoint(
    path: Path,
    learner: Learner,
    data: Mapping[str, Any],
    resume: tuple[State, torch.optim.Optimizer] | None = None,
) -> None:
    """Write the learner's weights and record; with ``resume`` all that a run needs to go on.

    Raises:
        OutputError: the disk is full, or the folder cannot be written to.
    """
    found: dict[str, Any] = {
        "mien": {
            "recipe": learner.recipe.to_dict(),
            "classes": [c.value for c in learner.classes],
            "mean": learner.mean,
            "std": learner.std,
            "seed": learner.seed,
            "data": dict(data),
        },
        "state_dict": learner.state_dict(),
    }
    if resume is not None:
        state, optimizer = resume
        found[_RESUME] = {"state": asdict(state), "optimizer": optimizer.state_dict()}
        found[_RESUME]["answers"] = learner.answers
    write_weights(path, found)


def write_weights(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """``torch.save``, all or nothing. Raises OutputError, which names the run folder."""
    try:
        with open_atomic(path, "wb") as stream:
            torch.save(dict(checkpoint), stream)
    except (OutputError, RuntimeError) as error:  # torch has an error of its own for a full disk
        if isinstance(error.__context__, KeyboardInterrupt):  # and for Ctrl-C in the middle
            raise error.__context__ from None
        why = error.__context__ if isinstance(error.__context__, OSError) else error
        raise OutputError(
            f"Cannot write into the run folder {str(path.parent)!r}: {first_line(why)}; free some "
            "space and go on with --resume."
        ) from error


def resume_from(path: Path, learner: Learner, optimizer: torch.optim.Optimizer) -> State:
    """Load the weights, the optimiser and the state of a run that goes on.

    Raises:
        ModelError: the file is damaged or does not fit.
        RecipeError: it was written before mien trained by a loop of its own.
    """
    checkpoint = _load(path)
    try:
        resume = checkpoint.get(_RESUME)
        if resume is None:
            raise RecipeError(
                f"{path} was written by an older mien and cannot be gone on with; train anew with "
                "another --out."
            )
        learner.load_state_dict(checkpoint["state_dict"])
        optimizer.load_state_dict(resume["optimizer"])
        learner.answers = resume["answers"]
        return State(**resume["state"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} does not fit the run ({first_line(error)}); train it anew."
        ) from None
