"""Nothing that mien runs speaks to the network unasked or leaves a file behind, dependencies
included; and a bare machine (no home, nothing to write to) is enough."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers_onnx import make_onnx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
IMAGE = ROOT / "mien" / "assets" / "astronaut.jpg"

PREDICT = """
    from mien.cli import main
    assert main(["predict", IMAGE, "--json"]) == 0
"""
#: The caller's own code had onnxruntime first.
PREDICT_LATE = """
    import os
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime
    from mien.cli import main
    assert main(["predict", IMAGE, "--json"]) == 0
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
SERVE = """
    import time
    from pathlib import Path
    from helpers_web import serving
    with serving("mien_distilled") as running, running.client() as client:
        answer = client.post("/v1/predict", content=Path(IMAGE).read_bytes())
        assert answer.status_code == 200, answer.text
        time.sleep(6)  # the look-up came within seconds of the start
"""
TRAIN = """
    from pathlib import Path
    from helpers_train import drawn_faces, drawn_splits, small_recipe
    from mien.export import export_onnx
    from mien.train.checkpoint import load_checkpoint
    from mien.train.fit import fit
    data = drawn_faces()
    splits = drawn_splits(data)
    fit(small_recipe(epochs=1), data, splits, Path("run"), device="cpu", quiet=True)
    train, val = splits.select(data, "train"), splits.select(data, "val")
    export_onnx(load_checkpoint("run/best.ckpt"), "m.onnx", train, val, int8=True, tolerance=1.0)
"""


def run(script: str, folder: Path, *before: str, **environment: str | None) -> None:
    """Run ``script`` in ``folder``; an environment variable of None is left out."""
    script = f"IMAGE = {str(IMAGE)!r}\n" + textwrap.dedent(script)
    kept = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "PYTHONDONTWRITEBYTECODE": "1"}
    kept.pop("ORT_DISABLE_TELEMETRY", None)
    for name in [name for name in kept if name.startswith("XDG_")]:
        del kept[name]
    for name, value in environment.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = value
    done = subprocess.run(
        [*before, sys.executable, "-W", "error::ResourceWarning", "-c", script],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def places(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("script", "needs"),
    [(PREDICT, ()), (PREDICT_LATE, ()), (SERVE, ("fastapi", "httpx")), (TRAIN, ("torch", "onnx"))],
    ids=["predict", "predict-late", "serve", "train-export"],
)
def test_no_look_up_and_no_file_at_home(tmp_path, shipped_model, script, needs):
    for module in needs:
        pytest.importorskip(module)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    trace = tmp_path / "trace"
    strace = shutil.which("strace")
    before = (strace, "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(trace)) if strace else ()
    run(script, work, *before, HOME=str(home), MIEN_DATA=None)
    # torchmetrics imports matplotlib, which keeps its list of fonts there.
    own = [path for path in home.rglob("*") if path.is_file() and "matplotlib" not in path.parts]
    assert own == []
    assert [name for name in places(work) if not name.startswith(("run", "m.onnx"))] == []
    if strace:
        calls = trace.read_text(encoding="utf-8", errors="replace").splitlines()
        spoken = [line for line in calls if "AF_INET" in line]
        assert [line for line in spoken if '"127.0.0.1"' not in line] == []


def test_the_guard_above_notices(tmp_path):
    """Without mien's care the same trace is not empty, or this onnxruntime reports nothing."""
    home = tmp_path / "home"
    home.mkdir()
    run(
        "import onnxruntime, time; time.sleep(1); print(1)",
        tmp_path,
        HOME=str(home),
    )
    import onnxruntime

    new = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 32)
    if new and sys.platform == "linux":
        assert places(home) != []


def test_onnxruntime_is_imported_in_one_place():
    found = set()
    for path in (ROOT / "mien").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "onnxruntime" for name in names):
                found.add(path.relative_to(ROOT).as_posix())
    # The exporter's quantiser comes after it asked for the module there.
    assert found == {"mien/onnxfile/runtime.py", "mien/export/onnx.py"}


def test_the_environment_is_as_it_was(tmp_path):
    run(
        """
        import os
        before = dict(os.environ)
        from mien.onnxfile.runtime import onnxruntime
        onnxruntime()
        assert dict(os.environ) == before
        """,
        tmp_path,
    )
    run(
        """
        import os
        os.environ["ORT_DISABLE_TELEMETRY"] = "0"
        from mien.onnxfile.runtime import onnxruntime
        onnxruntime()
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
        """,
        tmp_path,
    )


@pytest.mark.parametrize("state", ["read-only", "none", "missing"])
def test_a_bare_machine_is_enough(tmp_path, state):
    model = make_onnx(tmp_path / "tiny.onnx")
    home: str | None = {"read-only": "/proc", "none": None, "missing": str(tmp_path / "no")}[state]
    missing = str(tmp_path / "nowhere")
    script = f"""
        import sys
        from mien.cli import main
        assert main(["predict", IMAGE, "--model", {str(model)!r}, "--csv", "t.csv"]) == 0
        assert main(["demo", "--model", {str(model)!r}, "--output", "demo.png"]) == 0
        """
    work = tmp_path / "work"
    work.mkdir()
    run(script, work, HOME=home, TMPDIR=missing, XDG_CACHE_HOME=missing)
    assert places(work) == ["demo.png", "t.csv"]
