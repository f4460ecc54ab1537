"""The generated parts of the docs are up to date and the README keeps its bounds."""

from __future__ import annotations

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


def test_the_readme_is_short_and_opens_with_a_picture() -> None:
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
