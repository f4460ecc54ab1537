"""The reproduction report: every section, valid pages, right figures, and the results page."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers_reproduction import (
    CLASSES,
    curves_of,
    faces,
    not_run,
    record,
    run_record,
    scores_of,
    seed_record,
    summary_of,
)

from mien.data.dataset import FaceDataset
from mien.errors import DataError, OutputError
from mien.report import charts
from mien.report.document import count, duration, millions, points, shown, slug
from mien.report.markdown import plain
from mien.reproduce.record import Record, read_record, without_folders
from mien.reproduce.report import write_reproduction
from mien.reproduce.run import from_json
from mien.reproduce.spec import PAPERS, get_system

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from join_records import join
from results_page import results_page

EXTRAS = [e for name in PAPERS for e in get_system(name).extras]

_VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags balance; keeps ids, links, text and the rows of every table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refs: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.images = 0
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"attribute twice in {tag}"
        self.ids += [v for k, v in attrs if k == "id" and v]
        self.refs += [v for k, v in attrs if k in ("src", "href", "action", "srcset") and v]
        self.images += tag == "img"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refs += [v for k, v in attrs if k in ("src", "href") and v]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if self.rows and self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == first)


def write(result: dict, folder: Path, *datasets: FaceDataset) -> dict[str, Path]:
    return write_reproduction(from_json(Record, result), folder, datasets, EXTRAS)


def render(folder: Path, result: dict, *datasets: FaceDataset) -> tuple[Page, str, dict]:
    paths = write(result, folder, *datasets)
    page = Page(paths["html"].read_text(encoding="utf-8"))
    saved = json.loads(paths["json"].read_text(encoding="utf-8"))
    return page, paths["markdown"].read_text(encoding="utf-8"), saved


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str, dict, Path]:
    folder = tmp_path_factory.mktemp("single")
    return (*render(folder, record(), faces()), folder)


def several() -> dict:
    folds = [seed_record(0, fold=i, keys=("val", "test")) for i in range(4)]
    cv = run_record("cv", "Folds", seeds=folds, summary=summary_of(folds), dataset="ckplus")
    return record([run_record(), cv, not_run("wide", "Wide")])


def test_every_section_is_there_in_order(single: tuple[Page, str, dict, Path]) -> None:
    page, markdown, _, _ = single
    order = [
        "headlines",
        "time",
        "shape-curves",
        "shape-epochs",
        "shape-paper-report",
        "shape-test-report",
        "shape-protocol",
        "shape-layers",
        "comparison",
        "classes",
        "samples",
        "photos",
        "shape-deviations",
        "shape-recipe",
        "remarks",
        "provenance",
    ]
    assert [i for i in page.ids if i in order] == order
    assert len(page.ids) == len(set(page.ids))
    kept = [i for i in order if i not in ("samples", "shape-recipe")]
    assert re.findall(r'<a id="([^"]+)"></a>', markdown) == kept


def test_the_page_is_self_contained(single: tuple[Page, str, dict, Path]) -> None:
    page, _, _, folder = single
    outside = [r for r in page.refs if not r.startswith(("#", "data:image/"))]
    assert outside == []
    assert {r[1:] for r in page.refs if r.startswith("#")} <= set(page.ids)
    text = (folder / "reproduction.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text
    assert "width=device-width" in text


def test_figures_are_formatted_right(single: tuple[Page, str, dict, Path]) -> None:
    page, markdown, _, _ = single
    row = page.row("Validation accuracy")
    assert row[1:6] == [
        "65.05 % (table 2)",
        "64.00 ± 0.30 % (3 seeds)",
        "−1.05",
        "≥ 63.05 %",
        "met",
    ]
    assert page.row("Training accuracy")[1:6] == [
        "96.50 %",
        "90.12 %",
        "−6.38",
        "≥ 94.50 %",
        "missed",
    ]
    assert page.row("People not seen")[1:6] == ["not in the paper", "not run", "–", "–", "not run"]
    assert "17 h (CPU, not named)" in page.text
    said = "5,160,199 parameters; 5,160,199 parameters in the paper; 5,155,079 of ours trainable"
    assert said in page.text
    assert "429 M MACs" in page.text
    assert page.row("30")[:2] == ["30", "12"]
    assert page.row("PublicTest")[1:3] == ["467", "56"]
    assert "| 64.00 ± 0.30 % (3 seeds) |" in markdown


def test_the_class_table_is_the_confusion_matrix(single: tuple[Page, str, dict, Path]) -> None:
    page, _, saved, _ = single
    entry = next(e for e in saved["runs"][0]["seeds"][0]["scores"] if e["key"] == "paper")
    matrix = np.array(entry["scores"]["confusion"])
    happy = next(row for row in page.rows if row and row[0] == "happy")
    recall = matrix[3, 3] / matrix[3].sum()
    precision = matrix[3, 3] / matrix[:, 3].sum()
    assert happy[1:3] == [f"{100 * precision:.1f} %", f"{100 * recall:.1f} %"]
    assert happy[-1] == str(matrix[3].sum())
    total = next(row for row in page.rows if row and row[0] == "accuracy" and len(row) == 6)
    assert total[3] == f"{100 * np.trace(matrix) / matrix.sum():.1f} %"


def test_labels_are_escaped(single: tuple[Page, str, dict, Path]) -> None:
    page, markdown, _, folder = single
    html = (folder / "reproduction.html").read_text(encoding="utf-8")
    for bad in ("<A>", "<training>", "<two>"):
        assert bad not in html
        assert bad not in markdown
    assert "96 % is <training>" in page.text
    assert "It is | faster." in page.text
    assert "It is \\| faster." in markdown


def test_markdown_tables_are_well_formed(single: tuple[Page, str, dict, Path]) -> None:
    _, markdown, _, folder = single
    blocks = [b for b in markdown.split("\n\n") if b.lstrip().startswith("|")]
    assert len(blocks) >= 8
    for block in blocks:
        lines = block.splitlines()
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1, lines[0]
        assert re.fullmatch(r"(\| :?--:? )+\|", lines[1])
    named = re.findall(r"\]\((charts/[^)]+)\)", markdown)
    assert named
    assert {p.name for p in (folder / "charts").iterdir()} == {n.split("/")[1] for n in named}


def test_the_epochs_of_each_figure_have_a_table_that_fits_a_page(
    single: tuple[Page, str, dict, Path],
) -> None:
    tables = [b for b in single[1].split("\n\n") if b.startswith("| epoch of the paper")]
    assert [t.split("|")[3].strip() for t in tables] == [
        "training accuracy, paper",
        "validation accuracy, paper",
    ]
    assert all(t.count("\n") == 1 + 4 for t in tables)
    assert "| 30 | 12 | 65.00 % | 62.00 % | −3.00 |" in tables[1]


def test_charts_are_whole_images(single: tuple[Page, str, dict, Path]) -> None:
    folder = single[3]
    for path in (folder / "charts").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg", path.name
        text = path.read_text(encoding="utf-8")
        assert "nan" not in re.sub(r"base64,[^\"]+", "", text), path.name
        assert re.findall(r'(?:href|src)="(?!data:)[^"]*"', text) == [], path.name


def test_dataset_faces_are_in_the_page_alone(single: tuple[Page, str, dict, Path]) -> None:
    page, markdown, saved, folder = single
    assert page.images == 7 * 8
    assert "data:image" not in markdown
    assert "data:image" not in json.dumps(saved)
    drawn = [p.name for p in (folder / "charts").glob("*.svg") if "<image" in p.read_text()]
    assert drawn == ["photo-astronaut-jpg.svg"]  # the public-domain portrait


def test_commands_lose_the_folders_of_this_machine(single: tuple[Page, str, dict, Path]) -> None:
    saved = single[2]
    assert saved["command"] == "mien reproduce debnath2021 --data faces --out 'rep'"
    assert saved["runs"][0]["seeds"][1]["command"].endswith("--data faces --seed 1 --out s1")
    for name in ("json", "md", "html"):
        text = (single[3] / f"reproduction.{name}").read_text(encoding="utf-8")
        assert "/home/" not in text
        assert "/tmp/" not in text
    kept = "mien train x --set optimizer.lr=1e-3 --data a/b"
    assert without_folders(kept) == kept


def test_several_runs_are_groups_with_navigation(tmp_path: Path) -> None:
    page, markdown, saved = render(tmp_path, several())
    for name in ("run-shape", "run-cv", "run-wide"):
        assert name in page.ids
        assert f"#{name}" in page.refs
    assert page.row("Wide")[2:5] == ["not run", "0 seeds", "not run"]
    assert "This run was not run." in page.text
    assert page.row("Folds")[3] == "4 folds"
    assert "4 of 4 folds together" in page.text
    folds = [s["scores"][1]["scores"] for s in saved["runs"][1]["seeds"]]
    matrix = sum(np.array(s["confusion"]) for s in folds)
    assert f"{100 * np.trace(matrix) / matrix.sum():.1f} %" in page.text
    assert "## Folds" in markdown


def test_nothing_was_run(tmp_path: Path) -> None:
    result = record([not_run("shape", "Shape")])
    result["headlines"] = [{**h, "ours": None, "met": None} for h in result["headlines"]]
    result |= {"printed_epochs": {}, "comparison": [], "photos": [], "extra": {}}
    page, markdown, _ = render(tmp_path, result)
    assert "0 of 0 trainings of the fast budget are done" in page.text
    assert [row[2] for row in page.rows if row and "accuracy" in row[0]] == ["not run"] * 2
    assert "shape-curves" not in page.ids
    assert markdown.count("not run") >= 5


def test_the_paper_stands_on_the_curves() -> None:
    seeds = [curves_of(0)]
    bare = charts.curves("accuracy", seeds, [9])
    marked = charts.curves("accuracy", seeds, [9], {"val": [(12, 0.6505, 30)]})
    assert bare.count("<polygon") == 0
    assert marked.count("<polygon") == 2  # the mark and the key
    assert "paper, epoch 30: validation accuracy 65.05 %" in marked
    assert "epoch 9 was chosen" in bare
    assert charts.curves("accuracy", [[]]) == ""
    unseen = [[{k: v for k, v in row.items() if k[:3] != "val"} for row in rows] for rows in seeds]
    alone = charts.curves("accuracy", unseen, [9])  # a division without a validation part
    assert ">training<" in alone
    for key in (">validation<", ">chosen<"):
        assert key in bare
        assert key not in alone
    three = charts.curves("loss", [curves_of(i) for i in range(3)])
    assert three.count("<polyline") == 2 * (3 + 1)


def test_every_seed_is_a_dot() -> None:
    rows = [("test", [("0", 0.61), ("1", 0.62), ("2", 0.66)], 0.65)]
    svg = charts.seed_dots(rows)
    assert [f"seed {i}: {v}.00 %" in svg for i, v in ((0, 61), (1, 62), (2, 66))] == [True] * 3
    assert ">63.00<" in svg
    assert "paper 65.00 %" in svg


def test_bars_say_what_was_not_run() -> None:
    svg = charts.bars([("A & B", [0.58, None]), ("C", [None, 0.6])], "t")
    assert "not run" in svg
    assert "not in the paper" in svg
    assert "A &amp; B, paper: 58.00 %" in svg


def test_warnings_of_the_scores_are_shown(tmp_path: Path) -> None:
    result = record()
    result["runs"][0]["seeds"][0]["scores"][1]["notes"] = ["Labels may be permuted."]
    page, markdown, _ = render(tmp_path, result)
    assert "Labels may be permuted." in page.text
    assert "> **Warning.** Labels may be permuted." in markdown


def test_the_papers_report_stands_beside_ours_once(tmp_path: Path) -> None:
    result = record()
    result["runs"][0]["paper_report"] = {
        "happy": {"precision": 0.26, "recall": 0.26, "f1": 0.26, "support": 1774}
    }
    page, _, _ = render(tmp_path, result)
    happy = [row for row in page.rows if row and row[0] == "happy" and "26 %" in row]
    assert len(happy) == 1
    assert happy[0][-1] == "1,774"


def mislabelled() -> dict:
    row = {"precision": 0.26, "recall": 0.27, "f1": 0.26, "support": 30}
    side = {"accuracy": 0.18, "source": "table 5", "per_class": dict.fromkeys(CLASSES, row)}
    ours = scores_of(0)
    shuffled = {name: {**r, "predicted_share": 0.14} for name, r in ours["per_class"].items()}
    sums = {"mean": 0.169, "std": 0.01, "low": 0.15, "high": 0.19, "expected": 0.169}
    return {
        "state": "done",
        "split": "PublicTest + PrivateTest",
        "paper": side,
        "paper_training": {**side, "source": "table 4"},
        "ours": {"accuracy": ours["accuracy"], "per_class": ours["per_class"]},
        "shuffled": {"repeats": 1000, "seed": 0, "accuracy": sums, "per_class": shuffled},
        "largest_distance": 0.021,
    }


def test_extras_of_the_papers(tmp_path: Path) -> None:
    result = record()
    leak = {"seed": 0, "test": 99, "same_sequence_in_training": 97, "same_sequence_seen": 98}
    leak |= {"same_subject_in_training": 99, "same_subject_seen": 99}
    twins = {
        "state": "done",
        "images": 49277,
        "test": 2465,
        "exact_twin_in_training": 200,
        "near_twin_in_training": 300,
    }
    result["extra"] = {
        "mislabelled_report": mislabelled(),
        "ckplus_leakage": {"each": [leak], "sequences": 327, "subjects": 118},
        "fergit_twins": {
            **twins,
            "state": "done",
            "images": 49277,
            "by_source": {"muxspace": twins},
        },
    }
    page, _, _ = render(tmp_path, result)
    angry = next(r for r in page.rows if r and r[0] == "angry" and r[1] == "0.26")
    assert len(angry) == 12
    assert "accuracy 16.90 % on average, from 15.00 % to 19.00 %" in page.text
    assert "further than 2.1 points" in page.text
    assert page.row("seed 0")[1:3] == ["99", "97 (98.0 %)"]
    assert page.row("muxspace")[2] == "200 (8.1 %)"


def grid() -> dict:
    paper = {"accuracy": 0.6547, "precision": 0.6589, "recall": 0.6425, "f1": 0.6505}
    ours = {"accuracy": 0.61, "precision": 0.6, "recall": 0.59, "f1": 0.595}
    best = {"optimizer": "Adam", "batch": 128, "paper": paper, "cell": "Adam, 64, 8 epochs"}
    cell = {"data": "all", "backbone": "MobileNetV2", "optimizer": "Adam", "why": ""}
    return {
        "tables": [
            {
                "data": "all",
                "title": "All data",
                "rows": [
                    {**best, "backbone": "MobileNetV2", "ours": ours},
                    {**best, "backbone": "ResNet50", "ours": None, "cell": ""},
                ],
            }
        ],
        "cells": [
            {**cell, "batch": 64, "state": "done", "accuracy": 0.61},
            {**cell, "batch": 32, "state": "not run", "accuracy": None},
            {**cell, "batch": 16, "state": "failed", "accuracy": None, "why": "No <memory>."},
        ],
    }


def test_the_grid(tmp_path: Path) -> None:
    page, markdown, _ = render(tmp_path, {**record(), "extra": {"grid": grid()}})
    assert page.row("MobileNetV2")[1:4] == ["Adam, 128", "65.47 %", "61.00 %"]
    assert page.row("MobileNetV2")[-2:] == ["−4.47", "Adam, 64, 8 epochs"]
    assert page.row("ResNet50")[3] == "not run"
    assert "1 of 3 cells were run, 1 failed; the others are not run." in page.text
    assert page.row("all")[-1] == "No <memory>."
    heat = (tmp_path / "charts" / "grid-all-cells.svg").read_text(encoding="utf-8")
    assert "MobileNetV2, Adam 64: 61.00 %" in heat
    assert "MobileNetV2, Adam 32: not run" in heat
    assert "charts/grid-all-cells.svg" in markdown


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    render(tmp_path, several())
    page, markdown, _ = render(tmp_path, record())
    named = {n.split("/")[1] for n in re.findall(r"\]\((charts/[^)]+)\)", markdown)}
    assert {p.name for p in (tmp_path / "charts").iterdir()} == named
    assert "run-cv" not in page.ids


def test_where_a_stopped_training_went_on_is_shown(tmp_path: Path) -> None:
    whole, went_on = seed_record(0, keys=("val",)), seed_record(1, keys=("val",))
    went_on["environment"]["resumed"] = [
        {"started": "2026-01-02T03:04:05Z", "commit": "def5678", "threads": 2, "precision": "bf16"}
    ]
    text = markdown(tmp_path, record([run_record(seeds=[whole, went_on])]))
    assert "2026-01-02T03:04:05Z commit def5678 |" in text  # what is as it was is not repeated


def test_times_of_unequal_seeds_show_their_range(tmp_path: Path) -> None:
    each = [300.0, 600.0, 1200.0]
    text = markdown(tmp_path, record([run_record(seconds={"mean": 700.0, "each": each})]))
    assert f"{duration(700)} ({duration(300)} to {duration(1200)})" in text


def test_folds_of_unequal_size_show_both(tmp_path: Path) -> None:
    folds = [seed_record(0, fold, ("test",)) for fold in range(2)]
    folds[1]["scores"][0]["scores"] = scores_of(5, n=190)
    run = run_record(seeds=folds, summary=summary_of(folds))
    assert "190–210" in markdown(tmp_path, record([run]))


def test_earlier_recipes_are_listed_in_report_and_results(tmp_path: Path) -> None:
    made = record() | {"system": "debnath2021"}
    made["earlier"] = [
        {
            "run": "Shape",
            "budget": "fast",
            "recipe": "3 epochs",
            "figures": "40 % on the test split",
            "why": "Too short.",
            "commit": "1234567",
        }
    ]
    assert "| Shape | 3 epochs | 40 % on the test split | Too short. | 1234567 |" in markdown(
        tmp_path / "debnath2021", made
    )
    page = results_page(tmp_path)
    report = "../results/debnath2021/reproduction.md#earlier"
    assert f"[1 recipe that was replaced, or tried and not taken]({report})." in page


def markdown(folder: Path, made: dict) -> str:
    return write(made, folder)["markdown"].read_text()


def test_bad_records_and_folders(tmp_path: Path) -> None:
    (tmp_path / "nine.json").write_text(json.dumps({**record(), "schema": 9}))
    with pytest.raises(DataError, match="schema 1"):
        read_record(tmp_path / "nine.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="it is a file"):
        write(record(), tmp_path / "file")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(61200, "17 h"), (2640, "44 min"), (95, "1 min 35 s"), (7500, "2 h 05 min"), (3.21, "3.2 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_small_forms() -> None:
    assert (points(-0.0105), points(0.0035), points(0.0), points(None)) == (
        "−1.05",
        "+0.35",
        "0.00",
        "–",
    )
    assert (count(5160199), millions(429_000_000), millions(2_500_000)) == (
        "5,160,199",
        "429 M",
        "2.5 M",
    )
    assert [shown(v) for v in (None, True, 0.0005, [1, 2], {"a": 1})] == [
        "–",
        "yes",
        "0.0005",
        "1, 2",
        "a 1",
    ]
    assert slug("Four-layer ConvNet (fast)") == "four-layer-convnet-fast"


def page_tables(page: str) -> list[list[list[str]]]:
    """The cells of every table of a page, by row."""
    found = [part.splitlines() for part in page.split("\n\n") if part.startswith("| ")]
    return [
        [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        for lines in found
    ]


def test_results_page_before_and_after_a_run(tmp_path: Path) -> None:
    before = results_page(tmp_path)
    for name in PAPERS:
        assert f"[figures](#{name})" in before
        assert f'<a id="{name}"></a>' in before
    known = get_system("debnath2021")
    assert "So far 0 of 38 figures are measured by the fast recipe." in before
    lines, *of_papers = page_tables(before)
    assert lines[0] == [
        *("paper", "accuracy of", "claimed", "ours, fast recipe", "marks met", "more"),
    ]
    assert [row[2:5] for row in lines[2:]] == [
        ["96.5 / 65.05 %", "not run", "–"],
        ["76.83 / 65.38 %", "not run", "–"],
        ["50.77 to 65.47 %", "not run", "–"],
        ["75 / 97 %", "not run", "–"],
        ["58 / 60 / 59 %", "not run", "–"],
    ]
    assert len(of_papers) == len(PAPERS)
    assert {row[3] for row in of_papers[0][2:]} == {"not run"}
    assert all(plain(r.title) in before and plain(r.text) in before for r in known.remarks)
    write(record(), tmp_path / "debnath2021")
    after = results_page(tmp_path)
    assert "full recipe" not in after
    lines, figures, *_ = page_tables(after)
    assert lines[2][3:5] == ["90.12 / 64.00 %", "1 of 2"]
    assert "[report](../results/debnath2021/reproduction.md)" in lines[2][5]
    assert "64.00 ± 0.30 % (3 seeds), −1.05, met" in [row[3] for row in figures]
    assert "Fast recipe: 1 of 1 planned runs complete, 3 of 3 trainings, 20 min 27 s" in after
    assert re.search(r"So far \d of 3\d figures are measured by the fast recipe, 1 of 2 ", after)
    assert all(plain(remark["title"]) in after for remark in record()["remarks"])
    assert all(plain(remark["text"]) not in after for remark in record()["remarks"])


def test_the_full_recipe_stands_beside_the_fast_one(tmp_path: Path) -> None:
    write(record(), tmp_path / "debnath2021")
    full = record() | {"budget": "paper"}
    for mark in full["headlines"]:
        mark["ours"], mark["ours_text"], mark["remark"] = 0.7, "70.00 % (1 seed)", "In full."
    write(full, tmp_path / "debnath2021-paper")
    page = results_page(tmp_path)
    lines, figures, *others = page_tables(page)
    assert lines[0][3:6] == ["ours, full recipe", "ours, fast recipe", "marks met"]
    assert lines[2][3].startswith("70.00 / 70.00")
    assert lines[2][5].endswith("(fast)")
    assert "(full)" in lines[2][5]
    assert "[report of the full recipe](../results/debnath2021-paper/reproduction.md)" in page
    assert lines[3][3:5] == ["–", "not run"]  # nothing is said of a full recipe nobody ran
    assert figures[0][3:5] == ["ours, full recipe", "ours, fast recipe"]
    assert all(row[3].startswith("70.00 % (1 seed)") for row in figures[2:])
    assert page.count(" In full.") == 1
    assert all("ours, full recipe" not in table[0] for table in others)


def test_results_page_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    write(record(), tmp_path / "mondal2022")
    with pytest.raises(DataError, match="not of 'mondal2022'"):
        results_page(tmp_path)
    (tmp_path / "mondal2022" / "reproduction.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        results_page(tmp_path)
    (tmp_path / "mondal2022" / "reproduction.json").unlink()
    write(record() | {"budget": "fast (dry run)"}, tmp_path / "debnath2021")
    with pytest.raises(DataError, match="of a dry run"):
        results_page(tmp_path)
    write(record() | {"budget": "paper"}, tmp_path / "debnath2021")
    with pytest.raises(DataError, match="of the paper budget, not of the fast one"):
        results_page(tmp_path)


def test_records_of_two_machines_are_joined() -> None:
    whole = read_record(Path(__file__).parent.parent / "results/ahmed2024/reproduction.json")
    half = len(whole.runs) // 2
    lost = [dataclasses.replace(run, state="not run", seeds=(), summary={}) for run in whole.runs]
    grid = whole.extra["grid"]
    empty = {
        "tables": [
            {**table, "rows": [{**row, "ours": None, "cell": ""} for row in table["rows"]]}
            for table in grid["tables"]
        ],
        "cells": [{**cell, "state": "not run", "accuracy": None} for cell in grid["cells"]],
    }
    first = dataclasses.replace(whole, runs=(*whole.runs[:half], *lost[half:]))
    other = dataclasses.replace(
        whole, runs=(*lost[:half], *whole.runs[half:]), extra={"grid": empty}
    )
    joined = join([first, other])
    assert [run.done for run in joined.runs] == [run.done for run in whole.runs]
    assert [m.ours for m in joined.headlines] == [m.ours for m in whole.headlines]
    assert joined.extra == whole.extra
    assert join([other]).extra == {"grid": empty}


def test_the_report_needs_no_torch() -> None:
    import subprocess

    script = (
        "import sys, mien.reproduce.report\n"
        "print(sorted({'torch', 'lightning', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
