"""Ensembles: checkpoints whose probabilities are averaged, chosen on the validation split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._system import file_sha256
from mien.atomic import make_folder, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.data.duplicates import without_twins
from mien.errors import RecipeError
from mien.evaluate import write_report
from mien.evaluate.guard import refuse_seen
from mien.evaluate.predictions import Predictions
from mien.evaluate.runner import predict, report_on
from mien.evaluate.views import VIEWS, check_views
from mien.train.checkpoint import load_checkpoint, read_checkpoint
from mien.train.distill import find_members
from mien.train.fit import environment
from mien.train.members import ENSEMBLE, Member, relative
from mien.train.precision import choose_device

CHOICES = ("equal", "greedy")
TEST = "test.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scored:
    """A member with its file's hash and its probabilities on one split."""

    member: Member
    sha256: str
    predictions: Predictions


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
    weights: NDArray[np.float64] = best_counts / best_counts.sum()
    return weights


def member_predictions(
    member: Member, split: FaceDataset, name: str, views: str, cache: Path, device: str = "cpu"
) -> Scored:
    """A member's probabilities on ``split``, computed once and then read from ``cache``.

    The cache's key is the checkpoint's SHA-256, the images' ids and the views, so a changed
    checkpoint or dataset is computed anew.
    """
    sha = file_sha256(member.path)
    ids = hashlib.sha256("\n".join(split.ids.tolist()).encode() + split.images.tobytes())
    path = cache / f"{sha[:16]}-{name}-{views}-{ids.hexdigest()[:12]}.npz"
    kept = Predictions.load(path)
    if kept is not None:
        return Scored(member, sha, kept)
    classifier = load_checkpoint(member.path, device)
    found, _ = predict(
        classifier.predict_proba, split, classifier.info.labels, views=views, progress=True
    )
    found.save(path)
    return Scored(member, sha, found)


def averaged(scored: Sequence[Scored], weights: NDArray[np.float64]) -> Predictions:
    """The weighted mean of members' probabilities. The members share ids and classes."""
    first = scored[0].predictions
    total = np.zeros_like(first.probabilities)
    for one, weight in zip(scored, weights, strict=True):
        if (one.predictions.ids != first.ids).any():
            raise RecipeError("The members were scored on different images; delete the cache.")
        total += weight * one.predictions.reorder(first.classes).probabilities
    return Predictions(first.ids, total, first.classes)


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
            "division they are to be averaged."
        )
    return found[0]


def build_ensemble(
    paths: Sequence[Path],
    dataset: FaceDataset,
    splits: Splits,
    out: Path,
    *,
    views: str = "flip",
    choose: str = "equal",
    test: bool = False,
    device: str = "auto",
    command: str = "",
    say: Say = print,
) -> dict[str, Any]:
    """Average the members behind ``paths``; the shares come from the validation split.

    Args:
        paths: checkpoints, run folders or ensembles; see :func:`mien.train.distill.find_members`.
        out: folder of ``ensemble.json``, ``ensemble.md``, ``report/`` and the members'
            probabilities; ``test.json`` and ``test/`` where the test split was scored.
        choose: "equal" or "greedy" (:func:`greedy_weights`).
        test: score the test split, once: the same choice is answered from ``test.json``, which
            also has every member alone, without averaging over views too.

    Returns:
        the record written to ``ensemble.json``.

    Raises:
        RecipeError: an unknown choice, a member of other classes or trained on images of these
            validation or test splits, or the test split was scored for another choice here.
        ModelError: a path is no member.
    """
    check_views(views)
    device = choose_device(device)
    if choose not in CHOICES:
        raise RecipeError(f"--choose must be one of {', '.join(CHOICES)}, not {choose!r}.")
    val = splits.select(dataset, "val")
    if not len(val):
        raise RecipeError(f"Protocol {splits.protocol!r} has no validation split to choose on.")
    members = find_members(paths)
    for member in members:
        refuse_seen(member.path, splits, ("val", "test"))
    cache = make_folder(out / "probabilities")
    scored = []
    for member in members:
        say(f"{member.name} on {splits.published_name('val')}")
        scored.append(member_predictions(member, val, "val", views, cache, device))
        _check_classes(scored[-1], val, splits.protocol)
    joined = [s.predictions.join(val) for s in scored]
    labels = joined[0].labels
    if choose == "greedy":
        weights = greedy_weights(np.stack([j.probabilities for j in joined]), labels)
    else:
        weights = np.full(len(scored), 1 / len(scored))
    train = splits.select(dataset, "train")
    report = report_on(
        averaged(scored, weights),
        val,
        twin_free_ids=without_twins(val, train),
        views=views,
        model={"name": "ensemble", "members": len(scored)},
        protocol=splits.protocol,
        split=f"{splits.published_name('val')} (the shares were chosen on it)"
        if choose == "greedy"
        else splits.published_name("val"),
        command=command,
    )
    record: dict[str, Any] = {
        "protocol": splits.protocol,
        "views": views,
        "choose": choose,
        "data": {"name": dataset.name, "sha256": dataset.sha256},
        "members": [
            {
                "name": s.member.name,
                "checkpoint": relative(s.member.path, out),
                "sha256": s.sha256,
                "weight": round(float(w), 6),
                "val_accuracy": round(j.accuracy, 6),
            }
            for s, w, j in zip(scored, weights, joined, strict=True)
        ],
        "val": {"split": splits.published_name("val"), **_figures(report)},
        "command": command,
        **environment(),
    }
    kept = _kept_test(out, record)
    if test and not kept:
        kept = _score_test(record, scored, weights, dataset, splits, out, device, say)
    if kept:
        record["test"] = kept
    write_report(report, out / "report")
    write_text(out / ENSEMBLE, json.dumps(record, indent=2) + "\n")
    write_text(out / "ensemble.md", to_markdown(record))
    return record


def _figures(report: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "n": report.n,
        "accuracy": round(report.accuracy, 6),
        "accuracy_ci": list(report.to_dict()["accuracy_ci"]),
        "macro_f1": round(report.macro_f1, 6),
        "ece": round(report.scores.summary["ece"], 6),
    }
    if report.twin_free is not None:
        figures["twin_free_accuracy"] = round(report.twin_free.summary["accuracy"], 6)
        figures["twin_free_n"] = report.twin_free.n
    return figures


def _choice(record: dict[str, Any]) -> str:
    """What identifies a choice: members, shares, views and data."""
    key = [[m["sha256"], m["weight"]] for m in record["members"]]
    text = json.dumps([sorted(key), record["views"], record["data"]["sha256"]])
    return hashlib.sha256(text.encode()).hexdigest()


def _check_classes(scored: Scored, split: FaceDataset, protocol: str) -> None:
    """Raise RecipeError for a network of other classes, say of FER+'s eight on FER2013's seven."""
    if set(scored.predictions.classes) != set(split.classes):
        raise RecipeError(
            f"{scored.member.path} knows {', '.join(c.value for c in scored.predictions.classes)}, "
            f"and protocol {protocol!r} has {', '.join(c.value for c in split.classes)}; give the "
            "--protocol that its members were trained by."
        )


def _kept_test(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The test score of this very choice, if the folder holds one; {} if it holds none.

    Raises:
        RecipeError: it holds that of another choice, whose record this one would replace.
    """
    path = out / TEST
    if not path.is_file():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if kept.get("choice") != _choice(record):
        raise RecipeError(
            f"{path} holds the test score of another choice: give another --out to look at this "
            "one on the validation split. The test split is scored once; a second choice scored "
            "on it is chosen by it."
        )
    return kept


def _score_test(
    record: dict[str, Any],
    scored: Sequence[Scored],
    weights: NDArray[np.float64],
    dataset: FaceDataset,
    splits: Splits,
    out: Path,
    device: str,
    say: Say,
) -> dict[str, Any]:
    test = splits.select(dataset, "test")
    name = splits.published_name("test")
    cache = out / "probabilities"
    say(f"scoring {name}, once")
    members = [
        replace(
            s,
            predictions=member_predictions(
                s.member, test, "test", record["views"], cache, device
            ).predictions,
        )
        for s in scored
    ]
    seen = [splits.select(dataset, role) for role in ("train", "val")]
    twin_free = without_twins(test, *seen)

    def judge(predictions: Predictions, model: dict[str, Any]) -> Any:
        return report_on(
            predictions,
            test,
            twin_free_ids=twin_free,
            views=record["views"],
            model=model,
            protocol=splits.protocol,
            split=name,
            command=record["command"],
        )

    report = judge(averaged(members, weights), {"name": "ensemble", "members": len(scored)})
    write_report(report, out / "test")
    # Each alone too, in full and under every views: the rows of single networks need no second
    # look at the split.
    singles = []
    for s in members:
        single = _figures(judge(s.predictions, {"name": s.member.name}))
        single["by_views"] = {
            views: round(
                member_predictions(s.member, test, "test", views, cache, device)
                .predictions.join(test)
                .accuracy,
                6,
            )
            for views in VIEWS
        }
        singles.append(single)
    accuracies = [single["accuracy"] for single in singles]
    figures = {
        "choice": _choice(record),
        "split": name,
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
    lines = [
        f"# Ensemble of {len(record['members'])}",
        "",
        f"Protocol {record['protocol']}, views {record['views']}, shares {record['choose']}.",
        "",
        f"| member | share | {record['val']['split']} | {test.get('split', 'test')} |",
        "|---|---:|---:|---:|",
    ]
    for member, single in zip(record["members"], singles, strict=True):
        figure = "not scored" if single is None else f"{100 * single:.2f}"
        accuracy = f"{100 * member['val_accuracy']:.2f}"
        lines.append(f"| {member['name']} | {member['weight']:.3f} | {accuracy} | {figure} |")
    if test.get("member_sd") is not None:
        mean = f"{100 * test['member_mean']:.2f} ± {100 * test['member_sd']:.2f}"
        lines.append(f"| mean and standard deviation | | | {mean} |")
    whole = f"{100 * test['accuracy']:.2f}" if test else "not scored"
    lines += [f"| **ensemble** | 1 | **{100 * record['val']['accuracy']:.2f}** | **{whole}** |", ""]
    if "twin_free_accuracy" in test:
        lines += [
            f"Without twins ({test['twin_free_n']:,} images): "
            f"{100 * test['twin_free_accuracy']:.2f}.",
            "",
        ]
    lines += [f"Made by `{record['command']}`." if record["command"] else "", ""]
    return "\n".join(lines)
