from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mien.errors import RecipeError
from mien.train import precision
from mien.train.precision import choose_precision

Child = Callable[[str], None]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Child:
    """Put a small program in the trial's place; it counts its runs in ``tmp_path/runs``."""
    for name in precision.DECISIVE:
        monkeypatch.delenv(name, raising=False)

    def use(code: str) -> None:
        count = f"open({str(tmp_path / 'runs')!r}, 'a').write('x');"
        command = [sys.executable, "-c", f"import os, signal, sys; {count} {code}"]
        monkeypatch.setattr(precision, "_trial_command", lambda: command)

    return use


def _times(float32: float, bfloat16: float) -> str:
    return f"print({json.dumps({'float32': float32, 'bfloat16': bfloat16})!r})"


def _runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text())


def test_the_real_trial_chooses_what_this_process_survives(tmp_path: Path) -> None:
    choice = choose_precision("auto", "cpu", tmp_path)
    assert choice.reason.endswith(".")
    findings = json.loads((tmp_path / "precision.json").read_text())
    first = next(iter(findings.values()))
    if choice.precision == "bf16":
        assert first >= precision.MIN_GAIN
    else:
        assert isinstance(first, str) or first < precision.MIN_GAIN
    # The promise itself: a fresh process survives a step in the chosen precision.
    code = (
        "import sys, torch\n"
        "c = torch.nn.Conv2d(8, 8, 3, padding=1); x = torch.randn(4, 8, 24, 24)\n"
        "with torch.autocast('cpu', torch.bfloat16, enabled=sys.argv[1] == 'bf16'): y = c(x)\n"
        "y.float().sum().backward(); print(c.weight.grad.abs().sum().item() > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, choice.precision], capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


def test_a_crash_means_float32(child: Child, tmp_path: Path) -> None:
    child("os.kill(os.getpid(), signal.SIGILL)")
    choice = choose_precision("auto", "cpu", tmp_path)
    assert choice.precision == "32"
    assert choice.reason == (
        "bfloat16 does not work in this process (a trial step died of SIGILL)."
    )
    assert _runs(tmp_path) == 1
    assert choose_precision("auto", "cpu", tmp_path) == choice  # it will not get better
    assert _runs(tmp_path) == 1


def test_bf16_on_request_says_what_to_do_when_it_crashes(child: Child, tmp_path: Path) -> None:
    child("os.kill(os.getpid(), signal.SIGILL)")
    with pytest.raises(RecipeError, match=r"died of SIGILL.*try it with ONEDNN_MAX_CPU_ISA"):
        choose_precision("bf16", "cpu", tmp_path)
    child("sys.exit('RuntimeError: could not create a primitive')")
    with pytest.raises(RecipeError, match="could not create a primitive"):
        choose_precision("bf16", "cpu", tmp_path / "other")


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"), [(2.0, 1.0, "bf16"), (1.1, 1.0, "32"), (1.0, 3.0, "32")]
)
def test_speed_decides(
    child: Child, tmp_path: Path, float32: float, bfloat16: float, chosen: str
) -> None:
    child(_times(float32, bfloat16))
    choice = choose_precision("auto", "cpu", tmp_path)
    assert choice.precision == chosen
    assert f"{float32 / bfloat16:.1f} times" in choice.reason
    # On request it is bf16 even where it is slow, from the same trial.
    assert choose_precision("bf16", "cpu", tmp_path).precision == "bf16"
    assert _runs(tmp_path) == 1


def test_the_finding_is_kept_for_one_processor_version_and_environment(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(_times(2.0, 1.0))
    for _ in range(3):
        choose_precision("auto", "cpu", tmp_path)
    assert _runs(tmp_path) == 1
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    choose_precision("auto", "cpu", tmp_path)
    assert _runs(tmp_path) == 2
    monkeypatch.setattr(precision, "processor", lambda: "another processor")
    choose_precision("auto", "cpu", tmp_path)
    assert _runs(tmp_path) == 3
    monkeypatch.setattr(torch, "__version__", "99.0")
    choose_precision("auto", "cpu", tmp_path)
    assert _runs(tmp_path) == 4


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 3}', "\x00\xff"])
def test_a_damaged_cache_is_replaced(child: Child, tmp_path: Path, content: str) -> None:
    (tmp_path / "precision.json").write_text(content, encoding="latin-1")
    child(_times(2.0, 1.0))
    assert choose_precision("auto", "cpu", tmp_path).precision == "bf16"
    choose_precision("auto", "cpu", tmp_path)
    assert _runs(tmp_path) == 1


@pytest.mark.parametrize("entry", [None, {"speed": 1}, 0.0, -1.0])
def test_a_damaged_entry_is_replaced(child: Child, tmp_path: Path, entry: object) -> None:
    child(_times(2.0, 1.0))
    choose_precision("auto", "cpu", tmp_path)
    path = tmp_path / "precision.json"
    key = next(iter(json.loads(path.read_text())))
    path.write_text(json.dumps({key: entry}))
    assert choose_precision("auto", "cpu", tmp_path).precision == "bf16"
    assert _runs(tmp_path) == 2


def test_an_unwritable_cache_does_no_harm(child: Child, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    child(_times(2.0, 1.0))
    assert choose_precision("auto", "cpu", tmp_path / "file" / "below").precision == "bf16"


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert precision._cache_folder(None) == tmp_path / "mien"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    if os.name == "posix":
        assert precision._cache_folder(None) == tmp_path / ".cache" / "mien"


@pytest.mark.parametrize("code", ["print('nonsense')", "pass", "print('{}')", "print('[1]')"])
def test_a_trial_without_times_means_float32(child: Child, tmp_path: Path, code: str) -> None:
    child(code)
    choice = choose_precision("auto", "cpu", tmp_path)
    assert choice.precision == "32"
    assert "gave no times" in choice.reason


def test_a_trial_that_hangs_or_does_not_start(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child("import time; time.sleep(60)")
    monkeypatch.setattr(precision, "_TIMEOUT_S", 1)
    assert "more than 1 s" in choose_precision("auto", "cpu", tmp_path / "a").reason
    monkeypatch.setattr(precision, "_trial_command", lambda: [str(tmp_path / "missing")])
    assert "did not start" in choose_precision("auto", "cpu", tmp_path / "b").reason


def test_cuda_asks_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_precision("auto", "cuda").precision == "bf16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_precision("auto", "cuda").precision == "32"
    with pytest.raises(RecipeError, match="no bfloat16 units"):
        choose_precision("bf16", "cuda")


def test_values_are_checked() -> None:
    assert choose_precision("32", "cpu").precision == "32"
    with pytest.raises(RecipeError, match="'fp16'"):
        choose_precision("fp16", "cpu")
    with pytest.raises(RecipeError, match="'tpu'"):
        choose_precision("auto", "tpu")
