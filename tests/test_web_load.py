"""The load tests of benchmarks/serve.py in small: a few clients, a few hundred bad requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_memory import needs_proc
from helpers_onnx import make_onnx

pytest.importorskip("fastapi", reason="the extra [web] is not installed")
pytest.importorskip("skimage", reason="scikit-image carries the portrait")

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "serve.py"


def measure(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    model = make_onnx(tmp_path / "tiny.onnx")
    out = tmp_path / "serve.json"
    command = [sys.executable, str(SCRIPT), *arguments, "--model", str(model), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert out.exists(), done.stderr
    report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return report


def test_clients_at_once_get_right_answers(tmp_path: Path) -> None:
    load = measure(tmp_path, "load", "--clients", "8", "--seconds", "2")["load"]
    assert load["load"]["errors"] == 0, load["load"]["statuses"]
    assert load["load"]["requests"] >= 8
    assert load["load"]["p50_ms"] <= load["load"]["p95_ms"]


def test_malformed_requests_never_break_the_server(tmp_path: Path) -> None:
    report = measure(tmp_path, "malformed", "--requests", "200")["malformed"]
    assert report["server_errors"] == 0, report["statuses"]
    assert report["same_answer_after"]
    assert report["growth_mib"] < 16
    assert {"400", "404", "405", "422"} <= set(report["statuses"])


@needs_proc
def test_images_of_new_shapes_take_no_more_memory() -> None:
    """Each took tens of MiB for good: of onnxruntime, and of glibc's holes."""
    code = """
import numpy as np
from helpers_memory import _mib
from mien._system import give_large_blocks_back
from mien.pipeline import Analyzer
from mien.web.work import _warm
give_large_blocks_back()
analyzer = Analyzer(threads=1)
_warm(analyzer)
before = _mib("VmRSS")
for shape in ((2800, 320), (120, 32928), (480, 8832), (33248, 640)):
    analyzer.analyze(np.full((*shape, 3), 100, np.uint8), color="bgr")
print(_mib("VmRSS") - before)
"""
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) < 8
