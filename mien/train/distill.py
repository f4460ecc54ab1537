"""Teachers: trained networks whose averaged probabilities a student learns from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mien._system import file_sha256
from mien.emotions import Emotion
from mien.errors import ModelError, RecipeError
from mien.train.checkpoint import TorchClassifier, load_checkpoint
from mien.train.folder import BEST, LAST, RESULT
from mien.train.members import ENSEMBLE, Member, read_members


@dataclass
class Teachers:
    """Networks that label a batch as it is, augmented and mixed.

    Attributes:
        members: the networks, in eval mode; each standardises by its own mean and deviation.
        weights: their shares, summing to 1.
        record: name, SHA-256 and share of every member, and where its run folder is at hand its
            recipe, epochs and minutes; for the run's record.
    """

    members: Sequence[TorchClassifier]
    weights: Sequence[float]
    record: Sequence[dict[str, Any]] = ()

    @property
    def classes(self) -> tuple[Emotion, ...]:
        return self.members[0].info.labels

    def to(self, device: str) -> Teachers:
        """Move the networks to ``device``; returns itself."""
        for member in self.members:
            member.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            member.device = device
        return self

    def check(self, classes: tuple[Emotion, ...]) -> None:
        """Raise RecipeError unless the teachers name ``classes`` in this order."""
        if self.classes != classes:
            raise RecipeError(
                f"The teachers know {', '.join(c.value for c in self.classes)}, and the student is "
                f"to learn {', '.join(c.value for c in classes)}; use teachers of its protocol."
            )

    @torch.no_grad()
    def __call__(self, x: Tensor, temperature: float) -> Tensor:
        """float (N, 1, H, W) in 0..1 -> mean of the members' softmax(logits / temperature)."""
        total: Tensor | None = None
        for member, share in zip(self.members, self.weights, strict=True):
            inputs = (x - member.info.mean) / member.info.std
            p = share * (member.model(inputs).float() / temperature).softmax(dim=1)
            total = p if total is None else total + p
        assert total is not None
        return total


def find_members(paths: Iterable[Path]) -> list[Member]:
    """The checkpoints behind TEACHER arguments, with their shares (summing to 1).

    Args:
        paths: checkpoints, run folders, ensemble folders or their ``ensemble.json``; an ensemble's
            members share what one path gets, in its own proportions.

    Raises:
        ModelError: none of these.
    """
    given = list(paths)
    found: list[Member] = []
    for path in given:
        if path.suffix == ".ckpt":
            inner = [Member(_name(path), path, 1.0)]
        elif _is_ensemble(path):
            inner = _leading(read_members(path))
        elif (path / BEST).is_file():
            inner = [Member(path.name, path / BEST, 1.0)]
        else:
            raise ModelError(
                f"{path} is no teacher: give a .ckpt file, a run folder with {BEST}, or a folder "
                f"made by mien ensemble."
            )
        found += [Member(m.name, m.path, m.weight / len(given)) for m in inner]
    if not found:
        raise ModelError("No teacher was given.")
    return found


def _is_ensemble(path: Path) -> bool:
    return path.name == ENSEMBLE or (path / ENSEMBLE).is_file()


def _name(path: Path) -> str:
    """A checkpoint's name: its own, or its folder's where it has the name of every run's."""
    return path.parent.name if path.name in (BEST, LAST) else path.stem


def _leading(members: Sequence[Member]) -> list[Member]:
    """The members whose share is at least half of an equal one, sharing what the others had.

    The others cost a forward pass in every step and say next to nothing. With two members at .76
    and .24 the first teaches alone; ``mien distill`` says so.
    """
    given = [m for m in members if m.weight > 0]
    kept = [m for m in given if m.weight >= 0.5 / len(given)]
    total = sum(m.weight for m in kept)
    return [replace(m, weight=m.weight / total) for m in kept]


def dropped(paths: Iterable[Path]) -> list[str]:
    """The names of the ensembles' members that do not teach: see :func:`find_members`."""
    found = []
    for path in paths:
        if _is_ensemble(path):
            members = read_members(path)
            kept = {m.path for m in _leading(members)}
            found += [m.name for m in members if m.path not in kept]
    return found


def _cost(checkpoint: Path) -> dict[str, Any]:
    """What a run folder says of its training: recipe, minutes and epochs; {} where it is gone."""
    folder = checkpoint.parent
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        minutes = round(float(result["seconds"]) / 60, 1)
        return {"recipe": recipe["name"], "epochs": recipe["epochs"], "minutes": minutes}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def load_teachers(paths: Iterable[Path]) -> Teachers:
    """Load the networks behind TEACHER arguments; see :func:`find_members`.

    Raises:
        ModelError: a checkpoint is missing or damaged, or the teachers' classes differ.
    """
    members = find_members(paths)
    loaded = [load_checkpoint(m.path) for m in members]
    for member, classifier in zip(members, loaded, strict=True):
        if classifier.info.labels != loaded[0].info.labels:
            raise ModelError(
                f"{member.path} and {members[0].path} have different classes; "
                "teachers must share theirs."
            )
    record = [
        {
            "name": m.name,
            "sha256": file_sha256(m.path),
            "share": round(m.weight, 6),
            **_cost(m.path),
        }
        for m in members
    ]
    return Teachers(loaded, [m.weight for m in members], record)
