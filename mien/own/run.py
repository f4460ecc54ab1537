"""``finetune``: from a folder of one's own photos to a model file and a report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISDIR

import numpy as np
from numpy.typing import NDArray

from mien import zoo
from mien._system import mode_of
from mien._version import __version__
from mien.atomic import lock, make_folder, remove, write_bytes
from mien.classify import classifier_of
from mien.data.dataset import PROTOCOLS_OF_OWN, FaceDataset, Splits, fingerprint
from mien.data.own import list_photos
from mien.data.own_faces import Findings, OwnFaces, read_own
from mien.errors import (
    DataError,
    ModelError,
    OutputError,
    check_count,
    missing,
    require_extra,
)
from mien.evaluate import Report, describe_model, evaluate
from mien.modelinfo import ModelInfo
from mien.onnxfile.head import Head, find_head, with_head, with_record, without_head
from mien.own.divide import divide, unlearned
from mien.own.linear import Chosen, Linear, choose, head_of, temperature_of
from mien.own.network import EPOCHS, NEEDED, is_work_folder, train_network
from mien.own.page import FEW, warnings_of, write_pages
from mien.own.result import FinetuneResult
from mien.pipeline import Analyzer

METHODS = ("auto", "linear", "network")
#: Fingerprints that a file carries at most: its record has a limit.
MOST_LEARNED = 50_000


def finetune(
    photos: str | Path,
    *,
    out: str | Path,
    start: str | Path = zoo.DEFAULT,
    faces: bool = False,
    group_by: str | None = None,
    method: str = "auto",
    epochs: int = EPOCHS,
    seed: int = 0,
    report: str | Path | None = None,
    licence: str = "",
    on_found: Callable[[Findings], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
    quiet: bool = True,
) -> FinetuneResult:
    """Teach a model classes of one's own; the file is used like a shipped model.

    Args:
        photos: class folders, or a table; see :func:`mien.data.own.list_photos`.
        out: the ``.onnx`` file to write.
        start: the model to start from: a shipped one's name or an ``.onnx`` file.
        faces: the photos already are face crops.
        group_by: a regular expression that finds the person or video in a photo's path.
        method: "linear" (a head on frozen features: seconds, no torch), "network" (from there on
            the whole network, with the extra "train") or "auto": the network where it can be
            trained and there are 20 faces a class, if it is the better one on a part that chooses.
        epochs: most epochs of the network; early stopping ends sooner.
        seed: of the split and of the training.
        report: folder for report.html, report.md and report.json.
        licence: what the file says of its weights.
        on_found: called with what is in the photos before anything is learned.
        progress: called with (photos done, photos in all).
        command: said in the report. quiet: print nothing of the network's training.

    A training that is killed goes on where it was when the same is called again.

    Raises:
        DataError: the photos cannot be used; the sentence says why.
        ModelError: ``start`` is unknown, or cannot be started from; a number is out of range.
        OutputError: a file cannot be written.
    """
    protocol = PROTOCOLS_OF_OWN[faces]
    order = _Order(Path(out), method, epochs, seed, protocol, licence, command, quiet)
    if report is not None:
        make_folder(report)  # not only when all is learned
    with lock(order.out):
        analyzer = Analyzer(start)
        base = _Base.of(analyzer)
        listing = list_photos(photos, group_by)
        own = read_own(listing, Path(photos), analyzer, faces=faces, progress=progress)
        if on_found is not None:
            on_found(own.findings)
        result = _carry_out(order, base, own)
    return result if report is None else replace(result, pages=write_pages(result, report))


def check_target(out: Path) -> None:
    """Raise OutputError where ``out`` cannot be a model's file."""
    if out.suffix.lower() != ".onnx":
        raise OutputError(f"{str(out)!r} would hold a model; name it .onnx.")
    if S_ISDIR(mode_of(out, OutputError)):
        raise OutputError(f"{out} is a folder; name the model's file in it.")


@dataclass(frozen=True)
class _Order:
    """What is to be made of the photos. Raises OutputError, ModelError."""

    out: Path
    method: str
    epochs: int
    seed: int
    protocol: str
    licence: str
    command: str
    quiet: bool
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        check_target(self.out)
        check_count("epochs", self.epochs)
        check_count("seed", self.seed, least=0)
        if self.method not in METHODS:
            raise ModelError(f"method is {self.method!r}; expected {' or '.join(METHODS)}.")


def _carry_out(order: _Order, base: _Base, own: OwnFaces) -> FinetuneResult:
    """Learn, score the part that was kept, write the file."""
    data, info, method, chosen, splits, scored = _learn(base, own, order)
    report, info, data = _score(data, info, own.dataset, splits, scored, order)
    warnings = warnings_of(own.findings, splits, report, chosen.curve)
    if not info.learned:
        warnings += (
            f"With more than {MOST_LEARNED:,} faces the file does not hold which ones it learned "
            "from: score it on other photos alone.",
        )
    roles = ("train",) if method == "network" else ("train", "val")
    rows = own.dataset.indices_of(np.concatenate([splits.ids[role] for role in roles]))
    if absent := unlearned(own.dataset, rows):
        warnings += (
            f"No face of {absent} was learned from: they belong together and all are kept for "
            "scoring; add photos of others.",
        )
    write_bytes(order.out, data)
    if is_work_folder(work_folder(order.out)):
        remove(work_folder(order.out))
    return FinetuneResult(
        path=order.out,
        info=info,
        findings=own.findings,
        method=method,
        report=report,
        splits=splits,
        curve=chosen.curve,
        validated=chosen.accuracy,
        warnings=warnings,
        seconds=time.monotonic() - order.began,
    )


@dataclass(frozen=True)
class _Base:
    """The model that is started from."""

    data: bytes
    head: Head
    info: ModelInfo

    @classmethod
    def of(cls, analyzer: Analyzer) -> _Base:
        path = analyzer.classifier.path
        data = path.read_bytes()
        return cls(data, find_head(data, str(path)), analyzer.info)

    def features(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the last layer sees: uint8 (N, S, S) -> float32 (N, D)."""
        names = tuple(f"f{i}" for i in range(self.head.width))
        info = replace(self.info, labels=names, prior={})  # type: ignore[arg-type]
        return classifier_of(without_head(self.data, self.head, info)).logits(faces)


def work_folder(out: Path) -> Path:
    """Where a training that was killed goes on from; gone when it is done."""
    return out.with_name(f"{out.stem}-run")


def _method(wanted: str, own: OwnFaces) -> str:
    """What "auto" means for these faces and this installation."""
    if wanted == "network":
        require_extra("train", NEEDED, "--method network")
    if wanted != "auto":
        return wanted
    enough = len(own.dataset) >= FEW * len(own.dataset.classes)
    return "network" if enough and not missing(NEEDED) else "linear"


def _learn(
    base: _Base, own: OwnFaces, order: _Order
) -> tuple[bytes, ModelInfo, str, Chosen, Splits, str]:
    """The linear head, and the whole network from there on where it is better on the part that
    chooses; then also how the faces were divided."""
    method, data, seed = _method(order.method, own), own.dataset, order.seed
    try:
        splits, scored = divide(own, seed, order.protocol, val=method == "network")
    except DataError:  # too few people to keep some for choosing, too
        if order.method != "auto" or method == "linear":
            raise
        method = "linear"
        splits, scored = divide(own, seed, order.protocol, val=False)
    images = data.images
    features = base.features(images)
    mirrored = base.features(np.ascontiguousarray(images[:, :, ::-1]))
    rows = data.indices_of(np.concatenate([splits.ids["train"], splits.ids["val"]]))
    labels, classes = data.labels, len(data.classes)
    chosen = choose(features[rows], mirrored[rows], labels[rows], classes, own.together[rows], seed)
    info = _describe(base, own, rows, chosen, order)

    def made(linear: Linear) -> bytes:
        return with_head(base.data, base.head, linear.weight, linear.bias, info)

    if method == "network":
        part, val = (data.indices_of(splits.ids[role]) for role in ("train", "val"))
        start = head_of(features[part], mirrored[part], labels[part], classes, chosen.penalty)
        before = float((start.logits(features[val]).argmax(1) == labels[val]).mean())
        recipe = f"finetune: the whole network from {base.info.name} on"
        found, accuracy = train_network(
            made(start),
            replace(info, recipe=recipe),
            data,
            splits,
            work_folder(order.out),
            seed=seed,
            quiet=order.quiet,
            epochs=order.epochs,
        )
        # Its epoch was chosen on this very part: a gain within the part's standard error is none.
        if accuracy > before + math.sqrt(before * (1 - before) / len(val)):
            return found, classifier_of(found).info, method, chosen, splits, scored
    return made(chosen.linear), info, "linear", chosen, splits, scored


def _describe(
    base: _Base, own: OwnFaces, rows: NDArray[np.int64], chosen: Chosen, order: _Order
) -> ModelInfo:
    data, old, classes = own.dataset, base.info, len(own.dataset.classes)
    more = (classes - len(old.labels)) * base.head.width
    marks = sorted({fingerprint(face) for face in data.images[rows]} | set(old.learned))
    return replace(
        old,
        name=order.out.stem[:200],
        labels=data.classes,
        recipe=f"finetune: linear head on {old.name}",
        seed=order.seed,
        unsure_below=None,
        temperature=temperature_of(chosen.logits, data.labels[rows]),
        training_data=f"{data.name} ({len(rows):,} faces), started from {old.name}",
        data_sha256=data.sha256,
        protocol=order.protocol,
        licence=order.licence
        or f"Not stated: trained on {data.name}, whose terms decide. Started from {old.name}: "
        f"{old.licence}",
        parameters=max(0, old.parameters + more + classes - len(old.labels)),
        multiply_adds=max(0, old.multiply_adds + more),
        prior=dict.fromkeys(data.classes, 1 / classes),
        learned=tuple(marks) if len(marks) <= MOST_LEARNED else (),
        scores={},
        created_with=f"mien {__version__}",
    )


def _score(
    data: bytes, info: ModelInfo, dataset: FaceDataset, splits: Splits, scored: str, order: _Order
) -> tuple[Report, ModelInfo, bytes]:
    """The figures of the part that was kept, once; and the file with them in its record."""
    from mien.evaluate.samples import unseen

    classifier = classifier_of(data)
    test = unseen(classifier, splits.select(dataset, "test"))
    found = evaluate(
        classifier,
        test,
        splits=splits,
        seed=order.seed,
        model=describe_model(info),
        protocol=info.protocol,
        split=scored,
        command=order.command,
    )
    low, high = found.scores.intervals["accuracy"]
    figures = {key: round(found.scores.summary[key], 6) for key in ("accuracy", "macro_f1", "ece")}
    record = {**figures, "n": found.n, "low": round(low, 6), "high": round(high, 6)}
    info = replace(info, scores={f"{dataset.name}: {scored}": record})
    return found, info, with_record(data, info)
