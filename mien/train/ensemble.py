"""Ensembles: checkpoints whose probabilities are averaged, chosen on the validation split."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._system import file_sha256
from mien.atomic import make_folder, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.data.splits import refuse_seen, splits_beside
from mien.errors import RecipeError
from mien.evaluate import Joined, PredictionCache, Predictions, Report, write_report
from mien.evaluate.runner import TTA, check_tta, predict, report_on
from mien.evaluate.samples import Samples
from mien.report.markdown import markdown_table
from mien.train.checkpoint import load_checkpoint, read_checkpoint
from mien.train.distill import ENSEMBLE, Member, find_members
from mien.train.folder import environment
from mien.train.precision import choose_device

CHOICES = ("equal", "greedy")
#: In an ensemble's folder: the test score, and the members' probabilities.
TEST, PROBABILITIES = "test.json", "probabilities"
Say = Callable[[str], None]


def greedy_weights(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], rounds: int = 50
) -> NDArray[np.float64]:
    """Ensemble selection with replacement (Caruana et al. 2004) by log-likelihood.

    Starts empty; every round adds the member that lowers the averaged probabilities' negative
    log-likelihood most, and the best round counts. The likelihood is smoother than the accuracy
    and so harder to fit by chance.

    Args:
        probabilities: (M, N, K). labels: (N,).

    Returns:
        float64 (M,), summing to 1; members left out get 0.
    """
    counts = np.zeros(len(probabilities))
    best, best_counts = np.inf, counts
    total = np.zeros(probabilities.shape[1:])
    rows = np.arange(len(labels))
    own = probabilities[:, rows, labels]
    for size in range(1, rounds + 1):
        nll = -np.log(np.clip((total[rows, labels] + own) / size, 1e-12, None)).mean(axis=1)
        pick = int(nll.argmin())
        total = total + probabilities[pick]
        counts = counts.copy()
        counts[pick] += 1
        if nll[pick] < best - 1e-9:
            best, best_counts = float(nll[pick]), counts
    return np.asarray(best_counts / best_counts.sum(), np.float64)


def member_predictions(
    member: Member, split: FaceDataset, tta: str, folder: Path, device: str = "cpu"
) -> Predictions:
    """A member's probabilities on ``split``, computed once and then read from ``folder``."""

    def compute() -> tuple[Predictions, float]:
        classifier = load_checkpoint(member.path, device)
        labels = classifier.info.labels
        return predict(classifier.predict_proba, split, labels, tta=tta, progress=True)

    sha256 = file_sha256(member.path)
    return PredictionCache(folder).get(sha256, split, compute, tta)[0]


def averaged(found: Sequence[Predictions], weights: NDArray[np.float64]) -> Predictions:
    """The weighted mean of members' probabilities on the same images, in the same order."""
    classes = found[0].classes
    total = np.zeros_like(found[0].probabilities)
    for one, weight in zip(found, weights, strict=True):
        total += weight * one.reorder(classes).probabilities
    return Predictions(found[0].ids, total, classes)


def common_protocol(paths: Sequence[Path]) -> str:
    """The protocol that all members were trained by.

    Raises:
        RecipeError: they differ.
        ModelError: a path is no member.
    """
    records = [read_checkpoint(member.path)[0] for member in find_members(paths)]
    found = sorted({str(r.get("data", {}).get("protocol") or "fer2013") for r in records})
    if len(found) > 1:
        raise RecipeError(
            f"The members were trained by {' and '.join(found)}; say with --protocol on which "
            "split they are to be averaged."
        )
    return found[0]


def common_draw(paths: Sequence[Path], protocol: str) -> tuple[int, int | None]:
    """Seed and fold of the split of ``protocol`` that all members were trained by; (0, None) where
    they differ, or are not known.

    Raises:
        ModelError: a path is no member.
    """
    known = [splits_beside(member.path) for member in find_members(paths)]
    found = {(s.protocol, s.seed, s.fold) if s else ("", 0, None) for s in known}
    by, seed, fold = found.pop() if len(found) == 1 else ("", 0, None)
    return (seed, fold) if by == protocol else (0, None)


def build_ensemble(
    paths: Sequence[Path],
    dataset: FaceDataset,
    splits: Splits,
    out: Path,
    *,
    tta: str = "flip",
    choose: str = "equal",
    test: bool = False,
    device: str = "auto",
    command: str = "",
    say: Say = print,
) -> dict[str, Any]:
    """Average the members behind ``paths``; the shares come from the validation split.

    Returns the record that it writes to ``ensemble.json``.

    Args:
        paths: see :func:`mien.train.distill.find_members`.
        out: folder of ``ensemble.json``, ``ensemble.md``, ``report/`` and the members'
            probabilities; ``test.json`` and ``test/`` where the test split was scored.
        tta: the test-time augmentation: "none", "flip" or "ten".
        choose: "equal" or "greedy" (:func:`greedy_weights`).
        test: score the test split, once: the same choice is answered from ``test.json``, which
            also has every member alone, and without test-time augmentation too.

    Raises:
        RecipeError: an unknown choice, a member of other classes or trained on images of these
            validation or test splits, or the test split was scored for another choice here.
        ModelError: a path is no member.
    """
    check_choice(splits, choose, tta, test)
    members = checked_members(paths, splits)
    scorer = _Scorer(members, make_folder(out / PROBABILITIES), choose_device(device), command)
    val = Samples(dataset, splits, "val")
    found = scorer.predictions(val, tta, say)
    joined = [one.join(val.chosen) for one in found]
    weights = np.array([member.weight for member in members])
    if choose == "greedy":
        weights = greedy_weights(np.stack([j.probabilities for j in joined]), joined[0].labels)
    note = " (the shares were chosen on it)" * (choose == "greedy")
    report = scorer.report(val, averaged(found, weights), tta, note=note)
    record: dict[str, Any] = {
        "protocol": splits.protocol,
        "tta": tta,
        "choose": choose,
        "data": {"name": dataset.name, "sha256": dataset.sha256},
        "members": [_entry(*one, out) for one in zip(members, weights, joined, strict=True)],
        "val": {"split": val.split, **_figures(report)},
        "command": command,
        **environment(),
    }
    scored = _kept_test(out, record)
    if test and not scored:
        say(f"scoring {splits.published_name('test')}, once")
        scored = _score_test(scorer, Samples(dataset, splits, "test"), weights, record, out)
    record |= {"test": scored} if scored else {}
    write_report(report, out / "report")
    write_text(out / ENSEMBLE, json.dumps(record, indent=2) + "\n")
    write_text(out / "ensemble.md", to_markdown(record))
    return record


def check_choice(splits: Splits, choose: str, tta: str, test: bool) -> None:
    """Raise RecipeError or DataError where :func:`build_ensemble` could not choose, or score, so:
    to be asked before members are trained too."""
    if test and not len(splits.ids["test"]):
        raise RecipeError(f"Protocol {splits.protocol!r} has no test split; leave --test out.")
    if choose not in CHOICES:
        raise RecipeError(f"--choose must be one of {', '.join(CHOICES)}, not {choose!r}.")
    check_tta(tta)
    if not len(splits.ids["val"]):
        raise RecipeError(f"Protocol {splits.protocol!r} has no validation split to choose on.")


def checked_members(paths: Sequence[Path], splits: Splits) -> list[Member]:
    """The members behind ``paths``, none of which was trained on what chooses or scores here."""
    members = find_members(paths)
    for member in members:
        refuse_seen(member.path, splits, ("val", "test"))
    return members


def _entry(member: Member, weight: float, joined: Joined, out: Path) -> dict[str, Any]:
    """A member in ``ensemble.json``; its path is relative, so that both can be moved together."""
    path = Path(os.path.relpath(member.path.resolve(), out.resolve()))
    return {
        "name": member.name,
        "checkpoint": path.as_posix(),
        "sha256": file_sha256(member.path),
        "weight": round(float(weight), 6),
        "val_accuracy": round(joined.accuracy, 6),
    }


@dataclass(frozen=True)
class _Scorer:
    """The members, and with what they are scored."""

    members: Sequence[Member]
    folder: Path
    device: str
    command: str

    def predictions(
        self, split: Samples, tta: str, say: Say = lambda line: None
    ) -> list[Predictions]:
        """Every member's. Raises RecipeError for one of other classes, say of FER+'s eight."""
        found = []
        for member in self.members:
            say(f"{member.name} on {split.split}")
            found.append(member_predictions(member, split.chosen, tta, self.folder, self.device))
            own, wanted = found[-1].classes, split.chosen.classes
            if set(own) != set(wanted):
                raise RecipeError(
                    f"{member.path} knows {', '.join(c.value for c in own)}, and protocol "
                    f"{split.splits.protocol!r} has {', '.join(c.value for c in wanted)}; give the "
                    "--protocol that its members were trained by."
                )
        return found

    def report(
        self, split: Samples, found: Predictions, tta: str, name: str = "", note: str = ""
    ) -> Report:
        """The report of a member's predictions, or without a ``name`` of the ensemble's."""
        ensemble = {"name": "ensemble", "members": len(self.members)}
        return report_on(
            found,
            split.chosen,
            twin_free_ids=split.twin_free,
            tta=tta,
            model={"name": name} if name else ensemble,
            protocol=split.splits.protocol,
            split=split.split + note,
            command=self.command,
        )


def _figures(report: Report) -> dict[str, Any]:
    return {**report.figures(), "accuracy_ci": list(report.to_dict()["accuracy_ci"])}


def _choice(record: dict[str, Any]) -> str:
    """What identifies a choice: members, shares, test-time augmentation and data."""
    key = [[m["sha256"], m["weight"]] for m in record["members"]]
    text = json.dumps([sorted(key), record["tta"], record["data"]["sha256"]])
    return hashlib.sha256(text.encode()).hexdigest()


def _kept_test(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The test score of this very choice, if the folder holds one; {} if it holds none.

    Raises:
        RecipeError: it holds that of another choice, whose record this one would replace.
    """
    path = out / TEST
    if not path.is_file():
        return {}
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RecipeError(f"{path} is damaged; restore it, or give another --out.") from None
    if kept.get("choice") != _choice(record):
        raise RecipeError(
            f"{path} holds the test score of another choice: give another --out to look at this "
            "one on the validation split. The test split is scored once; a second choice scored "
            "on it is chosen by it."
        )
    return kept


def _score_test(
    scorer: _Scorer,
    test: Samples,
    weights: NDArray[np.float64],
    record: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    """The ensemble's figures, and each member's alone, under every test-time augmentation: the
    rows of single networks need no second look at the split."""
    by_tta = {tta: scorer.predictions(test, tta) for tta in TTA}
    found = by_tta[record["tta"]]
    report = scorer.report(test, averaged(found, weights), record["tta"])
    write_report(report, out / "test")
    singles = [
        _figures(scorer.report(test, one, record["tta"], member.name))
        | {"by_tta": {v: round(by_tta[v][k].join(test.chosen).accuracy, 6) for v in TTA}}
        for k, (member, one) in enumerate(zip(scorer.members, found, strict=True))
    ]
    accuracies = [single["accuracy"] for single in singles]
    figures = {
        "choice": _choice(record),
        "split": test.split,
        **_figures(report),
        "members": singles,
        "member_accuracies": accuracies,
        "member_mean": round(float(np.mean(accuracies)), 6),
        "member_sd": round(float(np.std(accuracies, ddof=1)), 6) if len(accuracies) > 1 else None,
    }
    write_text(out / TEST, json.dumps(figures, indent=2) + "\n")
    return figures


def to_markdown(record: dict[str, Any]) -> str:
    """The record of an ensemble as a page."""
    test = record.get("test") or {}
    singles = test.get("member_accuracies") or [None] * len(record["members"])
    rows = []
    for member, single in zip(record["members"], singles, strict=True):
        own = "not scored" if single is None else _points(single)
        rows.append(
            [member["name"], f"{member['weight']:.3f}", _points(member["val_accuracy"]), own]
        )
    if test.get("member_sd") is not None:
        spread = f"{_points(test['member_mean'])} ± {_points(test['member_sd'])}"
        rows.append(["mean and standard deviation", "", "", spread])
    whole = _points(test["accuracy"]) if test else "not scored"
    own = _points(record["val"]["accuracy"])
    rows.append(["**ensemble**", "1", f"**{own}**", f"**{whole}**"])
    header = ["member", "share", record["val"]["split"], test.get("split", "test")]
    parts = [
        f"# Ensemble of {len(record['members'])}",
        f"Protocol {record['protocol']}, test-time augmentation {record['tta']}, shares "
        f"{record['choose']}.",
        markdown_table(header, rows),
    ]
    if "twin_free_accuracy" in test:
        accuracy = _points(test["twin_free_accuracy"])
        parts.append(f"Without exact duplicates ({test['twin_free_n']:,} images): {accuracy}.")
    if record["command"]:
        parts.append(f"Made by `{record['command']}`.")
    return "\n\n".join(parts) + "\n"


def _points(share: float) -> str:
    return f"{100 * share:.2f}"
