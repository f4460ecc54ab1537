"""Lessons 1 to 3, read off learning curves: overfitting, dropout, residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

from mien.report.charts import PaperPoint
from mien.report.document import count, duration, number
from mien.reproduce.lessons.charts import FIRST, SECOND, Gap, Line, accuracy_curves
from mien.reproduce.lessons.words import (
    Curve,
    Lesson,
    Record,
    accuracies,
    class_counts,
    convolutions,
    curve_of,
    gap,
    images,
    lowest_loss,
    mean,
    moved,
    pct,
    pts,
    run_of,
    scores_of,
    tenth,
    verdict,
    weights,
)
from mien.reproduce.score_sections import done_seeds

#: Below this many points between two epochs nothing is called a stall.
_LITTLE = 5.0
#: Validation stalls where a point of training brings less than this.
_STALL = 0.25


def overfitting(record: Record) -> Lesson | None:
    """Why validation accuracy stalls while training accuracy climbs: Debnath et al."""
    run = run_of(record, "debnath_convnet")
    curve = curve_of(run)
    if curve is None:
        return None
    since = _ahead_since(curve)
    counts, asked = class_counts(record), scores_of(run, "val")
    n, m = images(counts, "Training"), asked[0].get("n") if asked else None
    printed = record.get("printed_epochs") or {}
    sentences = [
        f"The network has {weights(run)} weights to set and {_several(n)} images to set them by; "
        f"after every epoch it is asked about {_several(m)} others.",
        *_climb(curve, since),
        _loss(curve),
        *_printed_climb(printed),
        _counting(run, int(curve.last["epoch"])),
    ]
    svg = accuracy_curves(
        _pair(curve, "", SECOND, FIRST, dashed=False),
        "Training and validation accuracy by epoch",
        [_gap(curve, "var(--gap)", "")],
        None if since is None else (since, f"epoch {since:.0f}: training stays ahead"),
        {
            "training accuracy": (SECOND, _diamonds(printed, "train_accuracy")),
            "validation accuracy": (FIRST, _diamonds(printed, "val_accuracy")),
        },
    )
    trial, command = _longer(run)
    return Lesson(
        sentences,
        svg,
        "Training and validation accuracy of the four-layer ConvNet by epoch",
        "The bracket is training minus validation accuracy at the last epoch, in points."
        + _diamond_key(printed),
        ("debnath_convnet",),
        trial,
        command,
    )


def _counting(run: Record, epochs: int) -> str:
    """How training accuracy is counted, by the run's own recipe."""
    off = min(int((run.get("recipe") or {}).get("dropout_off") or 0), epochs)
    if not off:
        return (
            "Training accuracy is counted while an epoch runs, with dropout on, so it usually "
            "reads lower than the network would score on the same images afterwards."
        )
    return (
        "Training accuracy is counted while an epoch runs, with dropout on in the first "
        f"{epochs - off} epochs and off in the last {off}: a part of its rise there is dropout's "
        "end. The paper's is counted with dropout to its end."
    )


def _several(n: object) -> str:
    return count(n) if number(n) is not None else "some"


def _ahead_since(curve: Curve) -> float | None:
    """The epoch from which training accuracy stays the higher one, if it is not the last."""
    since = None
    for row in reversed(curve.rows):
        if row["train_accuracy"] <= row["val_accuracy"]:
            break
        since = row["epoch"]
    return None if since == curve.last["epoch"] else since


def _climb(curve: Curve, since: float | None) -> list[str]:
    """What both accuracies do from there on, and whether that is a stall."""
    last = curve.last
    if since is None:
        both = f"{pct(last['train_accuracy'])} and {pct(last['val_accuracy'])}"
        return [
            "Training accuracy never stays above validation accuracy for longer than an epoch; at "
            f"the last one they are {both}."
        ]
    start = next(r for r in curve.rows if r["epoch"] == since)
    train = gap(last["train_accuracy"], start["train_accuracy"])
    val = gap(last["val_accuracy"], start["val_accuracy"])
    said = (
        f"From epoch {since:.0f} on training accuracy is the higher one: by epoch "
        f"{last['epoch']:.0f} it {moved(start['train_accuracy'], last['train_accuracy'])} "
        f"({pts(train)}), while validation accuracy "
        f"{moved(start['val_accuracy'], last['val_accuracy'])} ({pts(val)})."
    )
    late = "what is learned late is about these very images, their noise and their wrong labels"
    if train < _LITTLE:
        return [said, "That is too little to speak of a stall."]
    if val <= 0:
        return [said, f"Nothing of that climb reaches images the network has not seen: {late}."]
    if val >= train:
        return [said, "Validation keeps up: what is learned holds for images not seen as well."]
    rate = f"{val / train:.2f} points for each point of training"
    if val < _STALL * train:
        return [said, f"So validation stalls, with {rate}: {late}."]
    return [
        said,
        f"In these {last['epoch']:.0f} epochs validation slows down more than it stalls ({rate}); "
        f"the gap opens because part of {late}.",
    ]


def _loss(curve: Curve) -> str:
    low = lowest_loss(curve)
    if low is None:
        return "The validation loss was not recorded."
    epoch, least, end = low
    if end > least:
        return (
            f"The validation loss is lowest at epoch {epoch} ({least:.3f}) and {end:.3f} at the "
            "last: the network grows surer of its answers, the wrong ones too."
        )
    return (
        f"The validation loss is lowest at the last epoch ({least:.3f}), so by then memorising has "
        "not made the answers worse."
    )


def _printed_climb(printed: Record) -> list[str]:
    """The paper's own last two printed epochs."""
    rows = [r for r in printed.get("rows") or () if len(r.get("paper") or {}) > 1]
    if len(rows) < 2 or not rows[-1]["paper"].keys() >= {"train_accuracy", "val_accuracy"}:
        return []
    (first, a), (last, b) = ((r["epoch"], r["paper"]) for r in rows[-2:])
    train, val = (
        f"{100 * a[k]:.2f} to {100 * b[k]:.2f} %" for k in ("train_accuracy", "val_accuracy")
    )
    return [
        f"The paper, which trained {printed.get('paper_epochs', last)} epochs, prints a training "
        f"accuracy of {train} for its epochs {first} and {last} and a validation accuracy of {val}."
    ]


def _diamonds(printed: Record, column: str) -> list[PaperPoint]:
    return [
        (float(r["epoch"]), float(r["paper"][column]), float(r["epoch"]))
        for r in printed.get("rows") or ()
        if number((r.get("paper") or {}).get(column)) is not None
    ]


def _diamond_key(printed: Record) -> str:
    return " Diamonds are what the paper prints." if _diamonds(printed, "val_accuracy") else ""


def _longer(run: Record) -> tuple[str, str]:
    """The other recipe of the same network, with what it costs at our speed."""
    ours = str((run.get("recipe") or {}).get("name"))
    fast = ours == "debnath_convnet_fast"
    other = "debnath_convnet" if fast else "debnath_convnet_fast"
    if not fast:
        return (
            "Train the same network for fewer epochs, with a learning rate that falls to nothing. "
            "How large is the gap at its end?",
            f"mien train {other} --data data/ --name fer2013",
        )
    spent = [
        s["seconds"] / s["epochs"] for s in done_seeds(run) if s.get("epochs") and s.get("seconds")
    ]
    epochs = int((run.get("paper_recipe") or {}).get("epochs") or 30)
    cost = f" ({duration(epochs * mean(spent))} at the speed of our run)" if spent else ""
    return (
        f"Train the paper's own recipe: {epochs} epochs at one learning rate{cost}. Before you "
        "look, guess where its two curves end, and at which epoch the validation loss turns.",
        f"mien train {other} --data data/ --name fer2013",
    )


def _pair(curve: Curve, of: str, train: str, val: str, *, dashed: bool) -> list[Line]:
    """Training and validation accuracy of one run as two lines."""
    made = []
    for name, column, stroke in (
        ("validation", "val_accuracy", val),
        ("training", "train_accuracy", train),
    ):
        points = [(r["epoch"], r[column]) for r in curve.rows]
        broken = dashed and name == "training"
        title = f"{name}, {of}" if of else name
        made.append(Line(title, stroke, points, curve.each[column], broken))
    return made


def _gap(curve: Curve, stroke: str, name: str) -> Gap:
    """The bracket of a run's last epoch."""
    last = curve.last
    train, val = last["train_accuracy"], last["val_accuracy"]
    words = f"{gap(train, val):.1f}".replace("-", "−")
    hint = f"{name + ': ' if name else ''}training minus validation, in points"
    return Gap(last["epoch"], min(train, val), max(train, val), stroke, words, hint)


def _two(first: Curve, second: Curve, names: tuple[str, str], label: str) -> str:
    """Two networks in one plot: validation solid, training dashed, a bracket for each gap."""
    lines, gaps = [], []
    pairs = ((first, names[0], SECOND), (second, names[1], FIRST))
    for curve, name, stroke in pairs:
        lines += _pair(curve, name, stroke, stroke, dashed=True)
        gaps.append(_gap(curve, stroke, name))
    return accuracy_curves(lines, label, gaps)


_TWO_KEY = (
    "Dashed: training; solid: validation. The brackets are training minus validation accuracy at "
    "the last epoch, in points."
)


def dropout(record: Record) -> Lesson | None:
    """What dropout did: Mondal's shallow network with and without it."""
    plain, dropped = (run_of(record, f"mondal_{name}") for name in ("shallow", "dropout"))
    without, with_it = curve_of(plain), curve_of(dropped)
    if without is None or with_it is None:
        return None
    a, b = without.last, with_it.last
    gaps = [gap(r["train_accuracy"], r["val_accuracy"]) for r in (a, b)]
    sentences = [
        f"Both networks have the same {weights(plain)} weights; in every training step the second "
        "one sets a random part of its units to zero, so that no unit can lean on another.",
        f"At the last epoch training accuracy is {pct(a['train_accuracy'])} without dropout and "
        f"{pct(b['train_accuracy'])} with it, validation accuracy {pct(a['val_accuracy'])} and "
        f"{pct(b['val_accuracy'])}.",
        _gaps(*gaps),
        "A part of that is only the counting: training accuracy is counted with units missing, "
        "validation accuracy with all of them.",
        *_tested(plain, dropped, ("without", "with it"), "dropout"),
        *_losses(without, with_it),
    ]
    epochs = 2 * int(b["epoch"])
    return Lesson(
        sentences,
        _two(without, with_it, ("no dropout", "dropout"), "Accuracy with and without dropout"),
        "Training and validation accuracy by epoch, with and without dropout",
        _TWO_KEY,
        ("mondal_shallow", "mondal_dropout"),
        f"Give the network with dropout {epochs} epochs. Does its gap open after all, and is "
        "validation accuracy the better for it?",
        f"mien train mondal_dropout --data data/ --name fer2013 --set epochs={epochs}",
    )


def _gaps(without: float, with_it: float) -> str:
    both = f"{pts(without)} without and {pts(with_it)} with it"
    if without < 0 or with_it < 0:
        signed = f"{without:.1f} and {with_it:.1f}".replace("-", "−")
        return f"The gap, training minus validation, is {signed} points without and with it."
    if with_it < without:
        return f"The gap between the two is {both}: dropout closed {pts(without - with_it)} of it."
    return f"The gap between the two is {both}: here dropout did not close it."


def _tested(
    first: Record,
    second: Record,
    names: Sequence[str],
    what: str,
    on: str = "PrivateTest, each at the epoch that validation chose",
) -> list[str]:
    """Both accuracies on the test images and what their difference allows to say."""
    scores, a, b = scores_of(first, "test"), accuracies(first, "test"), accuracies(second, "test")
    if not a or not b:
        return []
    n = float(scores[0]["n"])
    said = (
        f"On the {count(n)} images of {on}, accuracy is {pct(mean(a))} {names[0]} and "
        f"{pct(mean(b))} {names[1]}; "
    )
    return [said + verdict(mean(b), mean(a), n, what)]


def _losses(without: Curve, with_it: Curve) -> list[str]:
    a, b = lowest_loss(without), lowest_loss(with_it)
    if a is None or b is None:
        return []
    more = ", so it could train on" if b[0] == int(with_it.last["epoch"]) else ""
    return [
        f"Validation loss is lowest at epoch {a[0]} without dropout ({a[1]:.3f}; {a[2]:.3f} at the "
        f"end) and at epoch {b[0]} with it ({b[1]:.3f}; {b[2]:.3f} at the end){more}."
    ]


#: Ends of the run ids of the two pairs -> what they are trained on, and their test images.
_PAIRS = {
    "": ("FERGIT", "FERGIT's test part, each at the epoch that validation chose"),
    "_fer2013": ("FER2013 alone", "PrivateTest, both trained on FER2013 alone"),
}


def residual(record: Record) -> Lesson | None:
    """What residual blocks did: Bah & Xue's network with and without its three."""
    found: dict[str, tuple[Record, Record, Curve, Curve]] = {}
    for end in _PAIRS:
        basic, blocks = (run_of(record, f"{name}{end}") for name in ("bah_basic", "bah_resnet"))
        without, with_it = curve_of(basic), curve_of(blocks)
        if without is not None and with_it is not None:
            found[end] = (basic, blocks, without, with_it)
    if not found:
        return None
    end = next(iter(found))
    basic, blocks, without, with_it = found[end]
    a, b = without.last, with_it.last
    tests = [
        s
        for key, pair in found.items()
        for s in _tested(pair[0], pair[1], ("without", "with blocks"), "the blocks", _PAIRS[key][1])
    ]
    sentences = [
        "A residual block adds its input to what its two convolutions make of it, so that they "
        f"need only learn a correction; three of them bring this network from {weights(basic)} to "
        f"{weights(blocks)} weights.",
        f"Trained on {_PAIRS[end][0]}, it ends with a training accuracy of "
        f"{pct(a['train_accuracy'])} without and {pct(b['train_accuracy'])} with the blocks, and "
        f"a validation accuracy of {pct(a['val_accuracy'])} and {pct(b['val_accuracy'])}.",
        _caught(without, with_it),
        *tests,
        f"This network has {convolutions(basic)} convolutions, {convolutions(blocks)} with the "
        "blocks; on ImageNet such blocks changed little in a network of 18 layers and much in one "
        "of 34 (He et al. 2016).",
    ]
    svg = _two(without, with_it, ("basic", "residual"), "Accuracy with and without residual blocks")
    ids = tuple(f"{name}{key}" for key in found for name in ("bah_basic", "bah_resnet"))
    only = " ".join(f"--only {name}_fer2013" for name in ("bah_basic", "bah_resnet"))
    return Lesson(
        sentences,
        svg,
        "Training and validation accuracy by epoch, with and without residual blocks",
        f"{_PAIRS[end][0]}. {_TWO_KEY}",
        ids,
        "Train both with three seeds. Is the difference between the networks larger than the "
        "difference between two seeds of one network?",
        f"mien reproduce bah2022 --data data/ {only} --seeds 3",
    )


def _caught(without: Curve, with_it: Curve) -> str:
    """When the residual network reaches what the basic one has at its best."""
    best = max(without.rows, key=lambda r: r["val_accuracy"])
    said = (
        f"The basic network's best validation accuracy is {pct(best['val_accuracy'])}, at epoch "
        f"{best['epoch']:.0f}; the residual one"
    )
    mark = tenth(best["val_accuracy"])
    for row in with_it.rows:
        if tenth(row["val_accuracy"]) >= mark:
            return f"{said} is there at epoch {row['epoch']:.0f}."
    return f"{said} never gets there."
