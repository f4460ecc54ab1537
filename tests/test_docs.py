"""The generated parts of the docs are up to date and the README keeps its bounds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mien.cli import app_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
PAGES += sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
PAGES += sorted(f"mien/zoo/{page.name}" for page in (ROOT / "mien" / "zoo").glob("*.md"))


def options(verb: str, sub: str = "") -> set[str]:
    """The long options that a verb's help shows."""
    command: Any = typer.main.get_command(app_of(verb))
    if sub:
        command = command.commands[sub]
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    names = {name for p in shown for name in (*p.opts, *p.secondary_opts)}
    return {name for name in names if name.startswith("--") and name != "--help"}


def blocks(page: str, *languages: str) -> str:
    """The code of a page in one of the languages."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("script", ["fill_docs.py", "fill_robustness.py", "model_card.py"])
def test_generated_parts_are_up_to_date(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / script), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short_and_opens_with_a_image() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 160
    assert lines[0].startswith("![")


def test_the_readmes_first_lines_do_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes((ROOT / "mien" / "assets" / "astronaut.jpg").read_bytes())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.findall(r"^mien (predict .*)$", readme, re.MULTILINE)[0].split()
    code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    for arguments in (["-m", "mien", *command], ["-c", code]):
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        assert "happy" in done.stdout


@pytest.mark.parametrize("index", ["docs/README.md", "mkdocs.yml"])
def test_every_page_is_in_the_index_and_in_the_sites_menu(index: str) -> None:
    listed = (ROOT / index).read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {page for page in pages if page not in listed} == set()


@pytest.mark.parametrize(
    ("verb", "page", "part"),
    [
        ("predict", "cli.md", "## mien predict"),
        ("video", "video.md", "# Videos"),
        ("live", "web.md", "## mien live"),
        ("serve", "web.md", "## mien serve"),
    ],
)
def test_the_page_of_a_verb_names_its_options_and_no_others(
    verb: str, page: str, part: str
) -> None:
    table = (ROOT / "docs" / page).read_text(encoding="utf-8").split(f"{part}\n")[1]
    cells = re.search(r"^\| option .*?\n\n", table, re.MULTILINE | re.DOTALL)
    assert cells is not None
    listed = {line.split(" | ")[0] for line in cells[0].splitlines()}
    named = set(re.findall(r"--[a-z][a-z-]*", " ".join(listed)))
    offered = options(verb)
    #: Switches that are on unless their opposite is given; -o is short for --output.
    positive = {option.replace("--no-", "--") for option in named if option.startswith("--no-")}
    assert "--model" in offered
    assert offered - named - positive - {"--output"} == set()
    assert named - offered == set()


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_only_options_that_exist(page: str) -> None:
    code = blocks(page, "sh", "bash", "text").replace("\\\n", " ")
    for line in re.findall(r"(?:^|\| )mien ([a-z].*)$", code, re.MULTILINE):
        words = line.split("  #")[0].split()
        verb, sub = words[0], words[1] if words[0] == "data" else ""
        given = {word.split("=")[0] for word in words if re.match("--[a-z]", word)}
        assert given - options(verb, sub) == set(), line


@pytest.mark.parametrize("page", PAGES)
def test_python_imports_what_exists(page: str) -> None:
    lines = re.findall(r"^(?:from mien\S* import .+|import mien.*)$", blocks(page, "python"), re.M)
    exec("\n".join(lines), {})


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    local = [t for t in targets if not t.startswith("http")]
    missing = [t for t in local if not (path.parent / t).exists()]
    assert missing == []


def test_what_the_papers_promised_has_the_figures_of_the_records() -> None:
    def read(path: str) -> Any:
        return json.loads((ROOT / "results" / path).read_text(encoding="utf-8"))

    def percents(*values: float, digits: int = 1) -> str:
        return " / ".join(f"{100 * value:.{digits}f}" for value in values) + " %"

    blends = [read(f"mien_{m}/blend.json") for m in ("distilled", "photo", "ferplus")]
    before, after = (read(f"mien_{m}/panel.json") for m in ("distilled", "photo"))

    def cell(report: Any, name: str) -> Any:
        return next(c for c in report["cells"] if c["set"] == name)

    def group(tag: str, name: str) -> Any:
        found = [g for g in after["groups"] if (g["tag"], g["group"]) == (tag, name)]
        return next(g for g in found if g["label"] == "happy")

    def smiles(tag: str, name: str) -> str:
        return f"{group(tag, name)['right']} of {group(tag, name)['n']}"

    women, men = group("gender", "female"), group("gender", "male")
    ckplus = read("mien_distilled/ckplus.json")
    faces = read("bench.json")["classifier"]["1"]
    builds = read("mien_base_distilled/two_builds/ensemble.json")
    covers = read("mien_distilled/robustness/robustness.json")["corruptions"]
    own = read("mien_distilled/PublicTest.json")["twin_free"]
    ours = {
        f"{paper}.{mark['key']}": mark["ours"]
        for paper in ("ahmed2024", "bah2022", "mondal2022", "njoku2024")
        for mark in read(f"{paper}/reproduction.json")["headlines"]
    }
    lite0 = "ahmed2024.efficientnet_lite0"
    expected = [
        percents(*(b["top2"]["leader_in_two"] for b in blends)),
        percents(*(b["top2"]["same_pair"] for b in blends)),
        percents(*(b["blend"]["recall"] for b in blends)),
        f"women {smiles('gender', 'female')} (95 %: {women['low']:.0%}".removesuffix("%"),
        f"men {smiles('gender', 'male')} ({100 * men['low']:.0f}–{100 * men['high']:.0f} %)",
        f"18 to 22 years {smiles('age', '18 to 22')}, 23 to 28 {smiles('age', '23 to 28')}",
        f"29 to 54 {smiles('age', '29 to 54')}",
        f"London's smiles {sum(g['right'] for g in before['groups'] if g['tag'] == 'gender') - 102}"
        f" to {women['right'] + men['right']} of 102",
        f"{percents(ckplus['accuracy'])} of {ckplus['n']} images",
        f"macro recall {percents(ckplus['macro_recall'])}",
        f"{faces['1']:,.0f} faces/s one at a time, {max(faces.values()):,.0f} in batches",
        f"{percents(builds['val']['accuracy'], digits=2)} on PublicTest, each alone 72.14",
        f"79 % of its accuracy ({percents(covers['eyes_hidden']['accuracy'])})",
        f"72 % ({percents(covers['mouth_hidden']['accuracy'])})",
        f"own last layer {percents(own['accuracy'])}",
        f"{percents(ours['bah2022.ckplus_random'])} of random frames",
        f"{percents(ours['bah2022.ckplus_subjects'])} of people",
        f"{percents(ours['mondal2022.deep_val'], digits=2)} validation accuracy",
        f"with dropout {percents(ours['mondal2022.dropout_val'], digits=2)}",
        f"ResNet101 has {percents(ours['ahmed2024.resnet101_balanced'], digits=2)}",
        f"ResNet50 {percents(ours['ahmed2024.resnet50_balanced'], digits=2)}",
        f"{percents(ours[f'{lite0}_balanced'], digits=2)} from ImageNet's",
        f"{percents(ours[f'{lite0}_all'], digits=2)} from ImageNet's",
        f"network {percents(ours['njoku2024.accuracy_7178'], digits=2)} from random",
    ]
    for name in ("CK+", "muxspace"):
        was, now = (100 * cell(r, name)["accuracy"] for r in (before, after))
        expected.append(f"{name} {was:.1f} to {now:.1f} %")
    page = (ROOT / "docs" / "beyond.md").read_text(encoding="utf-8")
    assert [text for text in expected if text not in page] == []
