"""No file of a run folder executes anything, and a full disk is one sentence."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers_train import drawn_faces, drawn_splits, small_recipe

from mien.cli import main
from mien.data.convert import write_dataset
from mien.errors import MienError, ModelError, RecipeError
from mien.train.checkpoint import load_checkpoint
from mien.train.distill import load_teachers
from mien.train.fit import fit

PACKAGE = Path(__file__).resolve().parent.parent / "mien"
DATA = drawn_faces(70)


class Hostile:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def poison(path: Path, mark: Path) -> None:
    """A checkpoint whose loading would run code: the mark shows that it did."""
    torch.save({"mien": {}, "state_dict": {}, "resume": Hostile(mark)}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    torch.load(path, weights_only=False)  # it would: this test can fail
    assert mark.exists()
    mark.unlink()


def loads_of(tree: ast.AST) -> list[str]:
    """Calls that can execute what they read."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
            found += [n for n in names if n.split(".")[0] in {"pickle", "dill", "joblib", "shelve"}]
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        owner, name = ast.unparse(node.func.value), node.func.attr
        if owner == "torch" and name == "load" and given.get("weights_only") != "True":
            found.append(ast.unparse(node))
        if name in {"load_state_dict_from_url", "unsafe_load"}:
            found.append(ast.unparse(node))
        if given.get("allow_pickle", "False") != "False":
            found.append(ast.unparse(node))
        if owner in {"yaml", "marshal"} and name in {"load", "loads"}:
            found.append(ast.unparse(node))
    return found


def test_nothing_in_the_package_loads_what_could_run() -> None:
    bad = ("torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)")
    for line in (*bad, "import pickle", "from joblib import load"):
        assert loads_of(ast.parse(line)), line
    found = {
        path.relative_to(PACKAGE).as_posix(): calls
        for path in sorted(PACKAGE.rglob("*.py"))
        if (calls := loads_of(ast.parse(path.read_text(encoding="utf-8"))))
    }
    # An archive's driver and its own children talk through pipes; no file is read so.
    pipes = {f"batch/{name}.py" for name in ("engine", "worker")}
    assert {name: calls for name, calls in found.items() if name not in pipes} == {}
    assert all(found[name] == ["pickle"] for name in pipes)


def test_a_hostile_checkpoint_runs_nothing(tmp_path: Path) -> None:
    recipe, run, mark = small_recipe(epochs=1), tmp_path / "run", tmp_path / "mark"
    arguments: dict[str, Any] = {"device": "cpu", "quiet": True, "resume": True}
    fit(recipe, DATA, drawn_splits(DATA), run, **arguments)
    for name in ("last.ckpt", "best.ckpt"):
        poison(run / name, mark)
    with pytest.raises(MienError, match=r"last\.ckpt cannot be read as a checkpoint"):
        fit(recipe, DATA, drawn_splits(DATA), run, **arguments)
    for read in (lambda: load_checkpoint(run / "best.ckpt"), lambda: load_teachers([run])):
        with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
            read()
    assert not mark.exists()


def test_a_hostile_run_folder_under_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "fer2013.csv"
    parts = np.array(["Training", "Training", "PublicTest", "PrivateTest"])[np.arange(70) % 4]
    write_dataset(dataclasses.replace(DATA, splits=parts), data, "csv")
    runs, mark = tmp_path / "runs", tmp_path / "mark"
    run = runs / "dry-run" / "mondal_shallow-seed0"
    common = ["--data", str(data), "--device", "cpu", "--dry-run"]
    train = ["train", "mondal_shallow", "--set", "precision=32", "--out", str(run), *common]
    assert main(train) == 0
    (run / "result.json").unlink()  # as after a kill: it will be gone on with
    for name in ("last.ckpt", "best.ckpt"):
        poison(run / name, mark)
    assert main([*train, "--resume"]) == 2
    assert "last.ckpt cannot be read as a checkpoint" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "report"), "--runs", str(runs)]
    main(
        ["reproduce", "mondal2022", "--budget", "paper", "--only", "mondal_shallow", *out, *common]
    )
    assert "last.ckpt cannot be read as a checkpoint" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize(
    "record", ["[]", "{", "[" * 100_000, '{"data": 3, "seed": 0}', '{"epochs": "many"}']
)
def test_damaged_records_are_one_sentence(tmp_path: Path, record: str) -> None:
    recipe, run = small_recipe(epochs=1), tmp_path / "run"
    arguments: dict[str, Any] = {"device": "cpu", "quiet": True, "resume": True}
    fit(recipe, DATA, drawn_splits(DATA), run, **arguments)
    for name in ("recipe.json", "run.json"):
        kept = (run / name).read_text()
        (run / name).write_text(record)
        with pytest.raises(MienError):
            fit(recipe, DATA, drawn_splits(DATA), run, **arguments)
        (run / name).write_text(kept)


def test_a_checkpoint_of_an_older_mien_is_not_resumed(tmp_path: Path) -> None:
    recipe, run = small_recipe(epochs=1), tmp_path / "run"
    arguments: dict[str, Any] = {"device": "cpu", "quiet": True, "resume": True}
    fit(recipe, DATA, drawn_splits(DATA), run, **arguments)
    kept = torch.load(run / "last.ckpt", weights_only=True)
    old = {"pytorch-lightning_version": "2.6", "epoch": 1, "optimizer_states": []}
    torch.save({**old, "mien": kept["mien"], "state_dict": kept["state_dict"]}, run / "last.ckpt")
    with pytest.raises(RecipeError, match="older mien and cannot be gone on with; train anew"):
        fit(recipe, DATA, drawn_splits(DATA), run, **arguments)
    assert load_checkpoint(run / "last.ckpt").predict_proba(DATA.images).shape == (70, 7)


FULL = """
import resource, signal, sys
from pathlib import Path
from helpers_train import drawn_faces, drawn_splits, small_recipe
from mien.errors import OutputError
from mien.train.fit import fit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
data = drawn_faces(70)
try:
    run = Path(sys.argv[1])
    fit(small_recipe(epochs=1), data, drawn_splits(data), run, device="cpu", quiet=True)
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on file sizes")
def test_a_full_disk_names_the_run_folder(tmp_path: Path) -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sentence = done.stdout.strip()
    assert sentence.startswith(f"Cannot write into the run folder '{tmp_path / 'run'}'"), sentence
    assert "\n" not in sentence
    assert ".ckpt" not in sentence
    assert not list((tmp_path / "run").glob(".*.ckpt"))
    json.loads((tmp_path / "run" / "run.json").read_text())
