"""``mien batch --engine ray``: the rows of the local engine, and a node that is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from test_batch import committed, tables

from mien.batch import Options, batch

ray = pytest.importorskip("ray")


@pytest.fixture
def photos(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(160):
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), np.roll(portrait, number % 90, axis=1))
    (folder / "bad.jpg").write_bytes(b"no picture")
    return folder


def test_the_rows_are_the_same(photos: Path, model: Path, tmp_path: Path) -> None:
    options = Options(str(model))
    batch(photos, tmp_path / "local", options=options, workers=2)
    done = batch(photos, tmp_path / "ray", options=options, engine="ray", workers=2)
    assert (done.photos, done.failed) == (160, 1)
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")


def test_a_node_that_is_lost(photos: Path, model: Path, tmp_path: Path) -> None:
    """Two nodes, each with one CPU, as processes of their own; the second one is killed."""
    program = str(Path(sys.executable).with_name("ray"))
    if not shutil.which(program):
        pytest.skip("no ray command")
    here = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    port = "6397"
    common = ["--num-cpus", "1", "--block", "--disable-usage-stats"]
    nodes = [[program, "start", "--head", "--port", port, "--include-dashboard", "false", *common]]
    nodes.append([program, "start", "--address", f"127.0.0.1:{port}", *common])
    running: list[subprocess.Popen[bytes]] = []
    out, log = tmp_path / "out", tmp_path / "log"
    try:
        with log.open("wb") as file:
            for node in nodes:
                running.append(
                    subprocess.Popen(
                        node, env=here, stdout=file, stderr=file, start_new_session=True
                    )
                )
                time.sleep(12)
        command = [sys.executable, "-m", "mien", "batch", str(photos), "--model", str(model)]
        command += ["--out", str(out), "--engine", "ray", "--address", f"127.0.0.1:{port}"]
        driver = subprocess.Popen([*command, "--checkpoint", "0"], env=here)
        end = time.monotonic() + 120
        while not (out / "sources").exists() or not committed(out):
            assert driver.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        os.killpg(running[1].pid, signal.SIGKILL)
        assert driver.wait(240) == 1  # bad.jpg
    finally:
        for node in running:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGTERM)
                node.wait(60)
    batch(photos, tmp_path / "local", options=Options(str(model)), workers=2)
    assert tables(out) == tables(tmp_path / "local")
