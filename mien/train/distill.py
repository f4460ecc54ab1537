"""Teachers: trained networks whose averaged probabilities a student learns from.

Also what names them on the command line: checkpoints, run folders, and ensembles of these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mien._system import file_sha256
from mien.emotions import Label
from mien.errors import ModelError, RecipeError
from mien.modelinfo import known_prior
from mien.train.checkpoint import TorchClassifier, load_checkpoint
from mien.train.folder import BEST, LAST, RECIPE, RESULT

#: The file that makes a folder an ensemble.
ENSEMBLE = "ensemble.json"


@dataclass(frozen=True)
class Member:
    """A checkpoint with its name and share of the average."""

    name: str
    path: Path
    weight: float


def read_members(path: Path) -> list[Member]:
    """The members of an ensemble, by its folder or its file; their paths are resolved.

    Raises:
        ModelError: missing or damaged.
    """
    file = path if path.name == ENSEMBLE else path / ENSEMBLE
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))["members"]
        found = [
            Member(m["name"], file.parent / m["checkpoint"], float(m["weight"])) for m in listed
        ]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    if not found:
        raise ModelError(f"{file} is no ensemble made by mien ensemble; make it again.")
    return found


def find_members(paths: Iterable[Path], leading: bool = False) -> list[Member]:
    """The checkpoints behind TEACHER arguments, with their shares (summing to 1).

    Args:
        paths: checkpoints, run folders, ensemble folders or their ``ensemble.json``; an ensemble's
            members share what one path gets, in its own proportions.
        leading: leave out an ensemble's members with less than half of an equal share.

    Raises:
        ModelError: none of these.
    """
    given = list(paths)
    found: list[Member] = []
    for path in given:
        if path.suffix == ".ckpt":
            # A run's checkpoints have the names of every run's; others their own.
            name = path.parent.name if path.name in (BEST, LAST) else path.stem
            inner = [Member(name, path, 1.0)]
        elif _is_ensemble(path):
            inner = _leading(read_members(path)) if leading else read_members(path)
        elif (path / BEST).is_file():
            inner = [Member(path.name, path / BEST, 1.0)]
        else:
            raise ModelError(
                f"{path} is no trained network: give a .ckpt file, a run folder with {BEST}, or a "
                "folder made by mien ensemble."
            )
        found += [replace(m, weight=m.weight / len(given)) for m in inner]
    if not found:
        raise ModelError("No teacher was given.")
    return found


def _is_ensemble(path: Path) -> bool:
    return path.name == ENSEMBLE or (path / ENSEMBLE).is_file()


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
    """The names of the ensembles' members that do not teach: see :func:`load_teachers`."""
    found = []
    for members in (read_members(path) for path in paths if _is_ensemble(path)):
        kept = {m.path for m in _leading(members)}
        found += [m.name for m in members if m.path not in kept]
    return found


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
    def classes(self) -> tuple[Label, ...]:
        return self.members[0].info.labels

    @property
    def log_prior(self) -> Tensor | None:
        """Log share of each class where the first of them learned, float (K,); None: not known."""
        shares = known_prior(self.members[0].info)
        return None if shares is None else torch.tensor([shares[c] for c in self.classes]).log()

    def to(self, device: str) -> Teachers:
        """Move the networks to ``device``; returns itself."""
        for member in self.members:
            member.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            member.device = device
        return self

    def check(self, classes: tuple[Label, ...]) -> None:
        """Raise RecipeError unless the teachers name ``classes`` in this order."""
        if self.classes != classes:
            raise RecipeError(
                f"The teachers know {', '.join(c.value for c in self.classes)}, and the student is "
                f"to learn {', '.join(c.value for c in classes)}; use teachers of its protocol."
            )

    @torch.no_grad()
    def __call__(self, x: Tensor, temperature: float) -> Tensor:
        """float (N, 1, H, W) in 0..1 -> mean of the members' softmax(logits / temperature)."""
        total = torch.zeros((), device=x.device)
        for member, share in zip(self.members, self.weights, strict=True):
            inputs = (x - member.info.mean) / member.info.std
            total = total + share * (member.model(inputs).float() / temperature).softmax(dim=1)
        return total


def load_teachers(paths: Iterable[Path]) -> Teachers:
    """Load the networks behind TEACHER arguments; see :func:`find_members`.

    Raises:
        ModelError: a checkpoint is missing or damaged, or the teachers' classes differ.
    """
    members = find_members(paths, leading=True)
    loaded = [load_checkpoint(m.path) for m in members]
    for member, classifier in zip(members, loaded, strict=True):
        if classifier.info.labels != loaded[0].info.labels:
            raise ModelError(
                f"{member.path} and {members[0].path} have different classes; "
                "teachers must share theirs."
            )
    return Teachers(loaded, [m.weight for m in members], [_record(m) for m in members])


def _record(member: Member) -> dict[str, Any]:
    sha256 = file_sha256(member.path)
    found = {"name": member.name, "sha256": sha256, "share": round(member.weight, 6)}
    folder = member.path.parent
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        recipe = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        minutes = round(float(result["seconds"]) / 60, 1)
        cost = {"recipe": recipe["name"], "epochs": recipe["epochs"], "minutes": minutes}
    except (OSError, ValueError, KeyError, TypeError):
        return found  # a delivered checkpoint lies without its run
    return found | cost
