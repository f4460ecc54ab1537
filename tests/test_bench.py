"""``mien bench``'s measurements are made for real, on a small model."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from helpers_onnx import make_onnx

from mien import bench
from mien.errors import MienError


def test_bench_measures_everything(tmp_path, portrait):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), portrait[:360, 40:400])
    model = make_onnx(tmp_path / "tiny.onnx")
    out = json.loads(json.dumps(bench.run_bench(model, photo, repeats=1, threads=(1,))))
    assert set(out["classifier"]["1"]) == {str(b) for b in bench.BATCHES}
    assert min(out["classifier"]["1"].values()) > 0
    assert out["photo"]["1"]["4"] > 0
    assert 20 < out["fresh_process"]["cold_peak_mib"] < 400
    assert out["fresh_process"]["import_ms"] / 1e3 < out["fresh_process"]["cold_start_s"]
    assert 100 < out["disk"]["base_environment_mb"] < 1000
    assert out["model"]["name"] == "tiny"
    assert len(out["model"]["sha256"]) == 64
    assert [row["name"] for row in out["summary"]] == list(bench.TARGETS)
    by_name = {row["name"]: row for row in out["summary"]}
    row = by_name["cold_peak_mib"]
    assert row["met"] == (row["value"] <= 200)


def test_a_photo_without_a_face_is_refused(tmp_path):
    model = make_onnx(tmp_path / "tiny.onnx")
    blank = np.full((300, 300, 3), 80, np.uint8)
    with pytest.raises(MienError, match="shows 0 faces where 1 were put"):
        bench.photo_speed(model, blank, 1, 1)
